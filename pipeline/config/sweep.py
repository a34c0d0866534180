"""Grids: `{grid: [1, 4, 6]}` as a value gives one section for each; two grids multiply.

An element may be a mapping, for options that go together: `{grid: [{eps: 8/255, step: 2/255}, …]}`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from pipeline.errors import RetortError

KeyPath = tuple[str, ...]


def expand_grids(section: str, entries: Mapping[str, Any]) -> dict[str, Any]:
    """The named sections with every grid expanded, in order.

    `adaad` with `eps: {grid: [8/255, 16/255]}` becomes `adaad.eps=8_255` and `adaad.eps=16_255`.
    All options of a mapping are in the name: `adaad.eps=8_255.step=2_255`.

    Raises:
        RetortError: a grid is not a list, or is empty.
    """
    expanded: dict[str, Any] = {}
    for name, entry in entries.items():
        expanded.update(iterate_variants(section, name, entry))
    return expanded


def iterate_variants(section: str, name: str, entry: Any) -> Iterator[tuple[str, Any]]:
    """The variants of a named section with their names; itself if it holds no grid."""
    found = find_first_grid(entry, ())
    if found is None:
        yield name, entry
        return
    path, values = found
    if not isinstance(values, list) or not values:
        where = ".".join((section, name, *path))
        raise RetortError(f"{where}.grid: a list of values is expected; give at least one")
    for value in values:
        label = f"{name}.{format_value(path[-1], value)}"
        yield from iterate_variants(section, label, replace_value(entry, path, value))


def format_value(key: str, value: Any) -> str:
    """A key and value as part of a name, without slashes and spaces."""
    if isinstance(value, Mapping) and value:
        return ".".join(format_value(str(k), v) for k, v in value.items())
    return f"{key}={value}".replace("/", "_").replace(" ", "")


def find_first_grid(value: Any, path: KeyPath) -> tuple[KeyPath, Any] | None:
    """The path and values of the first grid below a value; None if there is none."""
    if not isinstance(value, Mapping):
        return None
    if path and set(value) == {"grid"}:
        return path, value["grid"]
    for key, below in value.items():
        if (found := find_first_grid(below, (*path, str(key)))) is not None:
            return found
    return None


def replace_value(value: Mapping, path: KeyPath, new: Any) -> dict:
    """A copy of nested mappings with one value replaced."""
    key, *rest = path
    return {**value, key: replace_value(value[key], tuple(rest), new) if rest else new}
