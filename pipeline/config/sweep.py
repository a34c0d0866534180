"""Grids: `{grid: [1, 4, 6]}` as a value gives one section for each; two grids multiply.

An element may be a mapping, for options that go together: `{grid: [{eps: 8/255, step: 2/255}, …]}`,
or a method with its options: `{grid: [{rslad: {steps: 2}}, adaad]}`. A grid within an element
multiplies as well.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RetortError
from pipeline.schema import parse_fractions, read_number

KeyPath = tuple[Any, ...]


@dataclass(frozen=True)
class Choice:
    """One value of a grid.

    Attributes:
        short: its name, made of the options that it sets.
        full: its name with the methods that these options belong to.
    """

    value: Any
    short: str
    full: str


def expand_grids(section: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The named sections with every grid expanded, in order.

    `adaad` with `eps: {grid: [8/255, 16/255]}` becomes `adaad.eps=8_255` and `adaad.eps=16_255`.
    All options of a mapping are in the name: `adaad.eps=8_255.step=2_255`. Where that is the same
    for two values, the name has the methods as well: `a.rslad-steps=2` and `a.adaad-steps=2`.

    Raises:
        RetortError: a grid is no list, is empty, holds a value twice or stands within a list, or
            makes a section that is there already.
    """
    expanded: dict[str, Any] = {}
    for name, entry in entries.items():
        for variant, value in list_variants(section, name, entry):
            if variant in expanded or (variant != name and variant in entries):
                raise RetortError(
                    f"{section}.{name}: its grids make '{variant}', which is there already; rename "
                    "one of them"
                )
            expanded[variant] = value
    return expanded


def list_sweeps(students: Mapping[str, Any]) -> dict[str, list[str]]:
    """The students that each sweep makes, by the name of its section.

    Raises:
        RetortError: as in ``expand_grids``.
    """
    return {
        name: [variant for variant, _ in list_variants("students", name, entry)]
        for name, entry in students.items()
        if isinstance(entry, Mapping) and next(iterate_grids(entry, ()), None) is not None
    }


def list_variants(section: str, name: str, entry: Any) -> list[tuple[str, Any]]:
    """The variants of a named section with their names; itself if it holds no grid."""
    where = f"{section}.{name}"
    if not isinstance(entry, Mapping):
        return [(name, entry)]
    grids = [
        (path, list_choices(".".join(map(str, (where, *path))), str(path[-1]), values))
        for path, values in iterate_grids(entry, ())
    ]
    check_no_grid_in_lists(where, entry)
    paths, choices = [path for path, _ in grids], [choice for _, choice in grids]
    made = list(itertools.product(*choices))
    labels = label_combinations(made)
    return [
        (".".join((name, *label)), replace_values(entry, paths, [choice.value for choice in row]))
        for label, row in zip(labels, made, strict=True)
    ]


def label_combinations(rows: Sequence[tuple[Choice, ...]]) -> list[tuple[str, ...]]:
    """The parts of each combination's name: short ones if these differ, else full ones.

    Where even these are the same, as those of the texts `a/b` and `a_b`, numbers are added.
    """
    labels = [tuple(choice.short for choice in row) for row in rows]
    if len(set(labels)) < len(labels):
        labels = [tuple(choice.full for choice in row) for row in rows]
    counts = Counter(labels)
    return [
        (*label, str(number)) if counts[label] > 1 else label
        for number, label in enumerate(labels, start=1)
    ]


def are_equal(first: Any, second: Any) -> bool:
    """Whether two values of a grid are one: as written, as fractions, or a number and its text.

    Mappings and lists are one if all that they hold is.
    """
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(are_equal(first[k], second[k]) for k in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(are_equal, first, second))
    if parse_fractions(first) == parse_fractions(second):
        return True
    is_text = isinstance(first, str), isinstance(second, str)
    return is_text[0] != is_text[1] and read_number(first) == read_number(second) is not None


def list_choices(where: str, key: str, values: Any) -> list[Choice]:
    """The values of one grid, with the grids in them expanded.

    Raises:
        RetortError: they are no list or an empty one, or one of them is there twice.
    """
    if not isinstance(values, list) or not values:
        raise RetortError(f"{where}.grid: a list of values is expected; give at least one")
    found = []
    for value in values:
        if is_grid(value):
            found += [choice.value for choice in list_choices(f"{where}.grid", key, value["grid"])]
        else:
            found += [expanded for _, expanded in list_variants(where, "grid", value)]
    for number, value in enumerate(found):
        if any(are_equal(value, other) for other in found[:number]):
            shown = format_name(".".join(format_options(key, value, with_methods=True)))
            raise RetortError(f"{where}.grid: {shown} is there twice; drop one")
    return [
        Choice(
            value,
            format_name(".".join(format_options(key, value, with_methods=False))),
            format_name(".".join(format_options(key, value, with_methods=True))),
        )
        for value in found
    ]


def format_options(key: str, value: Any, *, with_methods: bool) -> Iterator[str]:
    """`key=value` of each option below a key; of a method without options, its name alone.

    ``with_methods`` puts before each option the keys that lead to it: `rslad-steps=2`.
    """
    if isinstance(value, Mapping):
        for inner, below in value.items():
            parts = format_options(str(inner), below, with_methods=with_methods)
            nested = with_methods and isinstance(below, Mapping) and below
            yield from (f"{inner}-{part}" if nested else part for part in parts)
        if not value:
            yield key
    elif isinstance(value, list):
        yield f"{key}={','.join(str(part) for part in value)}"
    else:
        yield f"{key}={value}"


def format_name(text: str) -> str:
    """A text as part of a name: without slashes, spaces, brackets and what cannot be printed."""
    text = text.replace("/", "_").replace(" ", "")
    return "".join(c if c.isprintable() and c not in "{}[]'\"" else "_" for c in text)


def is_grid(value: Any) -> bool:
    """Whether a value is `{grid: …}`."""
    return isinstance(value, Mapping) and set(value) == {"grid"}


def iterate_grids(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, Any]]:
    """The path and values of every outermost grid below a value, in order."""
    if not isinstance(value, Mapping):
        return
    if path and is_grid(value):
        yield path, value["grid"]
        return
    for key, below in value.items():
        yield from iterate_grids(below, (*path, key))


def check_no_grid_in_lists(where: str, value: Any) -> None:
    """Raise if a grid stands in place of a single element of a list."""
    if isinstance(value, Mapping) and not is_grid(value):
        for key, below in value.items():
            check_no_grid_in_lists(f"{where}.{key}", below)
    if isinstance(value, list) and any(map(is_grid, value)):
        raise RetortError(
            f"{where}: a grid stands for a whole value; write {{grid: [[…], […]]}} in place of the "
            "list"
        )


def replace_values(value: Mapping, paths: Sequence[KeyPath], new: Sequence[Any]) -> dict:
    """A copy of nested mappings with the values at some paths replaced."""
    for path, replacement in zip(paths, new, strict=True):
        value = replace_value(value, path, replacement)
    return dict(value)


def replace_value(value: Mapping, path: KeyPath, new: Any) -> dict:
    """A copy of nested mappings with one value replaced."""
    key, *rest = path
    return {**value, key: replace_value(value[key], tuple(rest), new) if rest else new}
