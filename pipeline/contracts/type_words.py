"""Types in plain words: what a message says is expected where a value is of the wrong type."""

from collections.abc import Iterator, Mapping, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

PLAIN_WORDS = {  # type -> one value, several values, an example
    int: ("a whole number", "whole numbers", "3"),
    float: ("a number", "numbers", "0.1 or 8/255"),
    bool: ("true or false", "true or false", "true"),
    str: ("a text", "texts", "a name"),
}
BOUNDS = {"gt": "above {}", "ge": "of {} or more", "lt": "below {}", "le": "of at most {}"}
LIST_EXAMPLES = {int: "[0, 1]", float: "[0.5, 0.75]", str: "[a, b]"}


def split_annotation(kind: Any) -> tuple[Any, dict[str, Any]]:
    """An annotation's type, and the bounds and description in its metadata."""
    bounds: dict[str, Any] = {}
    while get_origin(kind) is Annotated:
        kind, *notes = get_args(kind)
        for note in [part for outer in notes for part in (*getattr(outer, "metadata", ()), outer)]:
            for name in (*BOUNDS, "min_length", "description"):
                if (bound := getattr(note, name, None)) is not None:
                    bounds.setdefault(name, bound)
    return kind, bounds


def list_alternatives(kind: Any) -> list[Any]:
    """The members of a union but None; a type that is no union alone."""
    bare, _ = split_annotation(kind)
    if get_origin(bare) in (Union, UnionType):
        return [part for part in get_args(bare) if part is not NoneType]
    return [kind]


def get_element_type(kind: Any) -> Any:
    """The annotated type of a list's elements; None of what is no list."""
    bare, _ = split_annotation(kind)
    return get_args(bare)[0] if get_origin(bare) in (tuple, list, Sequence) else None


def list_words(kind: Any) -> tuple:
    """The words of a `Literal`; none of any other type."""
    bare, _ = split_annotation(kind)
    return get_args(bare) if get_origin(bare) is Literal else ()


def describe_type(kind: Any) -> str:
    """What a value of an annotated type is, in words: `a whole number above 0`."""
    choices = list_alternatives(kind)
    if len(choices) > 1:
        return ", or ".join(dict.fromkeys(map(describe_type, choices)))
    bare, bounds = split_annotation(choices[0])
    if "description" in bounds:
        return bounds["description"]
    if bare in PLAIN_WORDS:
        return " ".join((PLAIN_WORDS[bare][0], *describe_bounds(bounds))).strip()
    if words := list_words(bare):
        return " or ".join(map(repr, words))
    if (element := get_element_type(bare)) is not None:
        return describe_list(bare, element, bool(bounds.get("min_length")))
    fields = getattr(bare, "model_fields", {}).items()
    needed = ", ".join(repr(name) for name, field in fields if field.is_required())
    return f"a mapping with {needed}" if needed else "a mapping {key: value}"


def describe_list(kind: Any, element: Any, is_filled: bool) -> str:
    """What a list is, in words: `a list of 3 numbers above 0`."""
    inner, bounds = split_annotation(element)
    words = PLAIN_WORDS[inner][1] if inner in PLAIN_WORDS else "values"
    if choice := list_words(inner):
        words = f"words out of {', '.join(map(repr, choice))}"
    count = "one or more " if is_filled else ""
    if get_origin(kind) is tuple and Ellipsis not in get_args(kind):
        count = f"{len(get_args(kind))} "
    return " ".join((f"a list of {count}{words}", *describe_bounds(bounds)))


def describe_bounds(bounds: Mapping[str, Any]) -> Iterator[str]:
    """The bounds of a number, in words."""
    if {"ge", "le"} <= bounds.keys():
        yield f"from {bounds['ge']} to {bounds['le']}"
        return
    yield from (words.format(bounds[name]) for name, words in BOUNDS.items() if name in bounds)


def ask_for(kind: Any) -> str:
    """The sentence that asks for a value of an annotated type, with an example."""
    bare, bounds = split_annotation(list_alternatives(kind)[0])
    example = PLAIN_WORDS[bare][2] if bare in (int, float) and not bounds else ""
    if (element := get_element_type(bare)) is not None:
        example = LIST_EXAMPLES.get(split_annotation(element)[0], "")
    return f"{describe_type(kind)} is expected{f', such as {example}' if example else ''}"


def describe_given(value: Any) -> str:
    """What was given in place of it, in parentheses, as a configuration would say it."""
    names = {dict: "a mapping", list: "a list", tuple: "a list"}
    if value is None or isinstance(value, bool):
        return f" (got {'nothing' if value is None else str(value).lower()})"
    if isinstance(value, dict) and set(value) == {"grid"}:
        return " (got a grid, which stands for values of students alone)"
    if value in ((), [], {}):
        return f" (got {names[type(value)].replace('a ', 'an empty ')})"
    if type(value) in names:
        return f" (got {names[type(value)]})"
    return f" (got {value!r})" if isinstance(value, str | int | float) else ""


def wants_number(kind: Any) -> bool:
    """Whether an annotated type takes a number and neither true nor false."""
    found = {split_annotation(part)[0] for part in list_alternatives(kind)}
    return bool(found & {int, float}) and bool not in found


def follow_path(kind: Any, path: Sequence[str | int]) -> tuple[list[str], Any]:
    """The dotted parts that a path of pydantic's means, and the annotated type that it ends at.

    The path also holds the members of unions and `[key]`, which a configuration does not. The type
    is None where it is not known.
    """
    parts: list[str] = []
    for place, part in enumerate(path):
        choices = list_alternatives(kind) if kind is not None else [None]
        if len(choices) > 1:  # the part is the name of a member; only a list leads further
            below = path[place + 1 : place + 2]
            lists = [choice for choice in choices if get_element_type(choice) is not None]
            kind = lists[0] if below and isinstance(below[0], int) and lists else kind
            continue
        if part == "[key]":
            continue
        parts.append(str(part))
        kind = step_into(split_annotation(choices[0])[0], part)
    return parts, kind


def step_into(kind: Any, part: str | int) -> Any:
    """The annotated type of a field, key or element; None if it is not known."""
    fields = getattr(kind, "model_fields", {})
    if part in fields:
        return Annotated[fields[part].annotation, fields[part]]
    if get_origin(kind) is dict:
        return get_args(kind)[1]
    return get_element_type(kind)
