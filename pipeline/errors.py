"""The error type that users see: one line with the key or file at fault, and the remedy.

A value of the wrong type is answered by the type that is expected, in plain words.
"""

import errno
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

COMMAND = "retort"  # the console script, as messages and help name it
NO_SPACE_ERRORS = ("ENOSPC", "EDQUOT", "EFBIG")  # there is no room for the file
DENIED_ERRORS = ("EACCES", "EPERM", "EROFS", "ENOTDIR")
ROOM_REMEDY = "free some space and run again"
MEMORY_REMEDY = "give its rule more (mem_mb) or lower its batch and run again"


class RetortError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it."""

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


@contextmanager
def prefix_errors(prefix: str) -> Iterator[None]:
    """Puts a prefix before the message of every RetortError that the block raises."""
    try:
        yield
    except RetortError as error:
        raise RetortError(f"{prefix}{error}") from error


def explain_error(error: Exception, place: str) -> str:
    """One line on what went wrong and what to do; empty for an error that nobody foresaw.

    Args:
        error: what ended a verb or a job.
        place: the folder that it worked on.
    """
    name = type(error).__name__
    if isinstance(error, RetortError):
        return str(error)
    for cause in list_causes(error):  # torch answers a full disk by an error of its own
        if isinstance(cause, OSError) and is_disk_full(cause):
            return f"{place}: {cause.strerror}; {ROOM_REMEDY}"
    if isinstance(error, OSError) and errno.errorcode.get(error.errno) in DENIED_ERRORS:
        return f"{error.filename}: {error.strerror}; make it writable"
    if isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
        return f"{place}: out of memory; {MEMORY_REMEDY}"
    if name == "SafetensorError" and "I/O error" in str(error):  # the package loads torch
        return f"{place}: {error}; {ROOM_REMEDY}"
    return ""


def list_causes(error: BaseException) -> list[BaseException]:
    """An error and those that led to it, the last first."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


def is_disk_full(error: OSError) -> bool:
    """Whether an operation failed because a disk, quota or file-size limit is exhausted."""
    return errno.errorcode.get(error.errno) in NO_SPACE_ERRORS


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or torch on a CPU or GPU, failed to allocate memory."""
    torch_messages = ("OutOfMemoryError", "can't allocate memory", "not enough memory")
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(word in text for word in torch_messages)


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
