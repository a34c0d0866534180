"""Where a configuration comes from: its files and `--config`, merged, and the place of each key."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.config.sweep import list_sweeps
from pipeline.config.yaml_files import KeyPlace, place_values, read_yaml
from pipeline.errors import RetortError

COMMAND_LINE = "--config"
SHORT_FORMS = {  # a path in the sections as they are checked -> how it may be written
    "recipe.epochs": "epochs",
    "recipe.gpus": "gpus",
    "teachers.teacher": "teacher",
}


@dataclass(frozen=True)
class ConfigSource:
    """The merged values of a configuration, and where they are written; empty for plain dicts.

    Attributes:
        files: as the user named them.
        values: as they are written, with shorthands and grids.
        places: of the keys, by key.
    """

    files: tuple[str, ...] = field(default=(), compare=False)
    values: dict[str, Any] = field(default_factory=dict, compare=False)
    places: dict[str, KeyPlace] = field(default_factory=dict, compare=False)

    @contextmanager
    def locate_errors(self) -> Iterator[None]:
        """Puts file and line before the message of every RetortError that the block raises."""
        try:
            yield
        except RetortError as error:
            raise RetortError(self.locate(str(error))) from error

    def locate(self, message: str) -> str:
        """A message that begins with a dotted path, after the place of that key.

        If the key is not written, the place is that of its nearest ancestor. A path that is
        written in a short form is replaced by it.
        """
        if not self.files:
            return message
        where, below, start = "", self.places, 0
        while True:
            message = shorten_path(message, start, below)
            known = [key for key in below if is_next_key(message[start:], key)]
            if not known:
                return f"{where or ', '.join(self.files)}: {message}"
            key = max(known, key=len)
            at_students = start == 0 and key == "students"
            where, below, start = below[key].where, below[key].below, start + len(key) + 1
            if at_students:
                below = {**below, **self.place_variants(below)}

    def place_variants(self, students: Mapping[str, KeyPlace]) -> dict[str, KeyPlace]:
        """The places of the students that grids make, each that of its section."""
        if not isinstance(self.values["students"], Mapping):
            return {}
        try:
            sweeps = list_sweeps(self.values["students"])
        except RetortError:  # a faulty grid is reported by itself, and makes no students
            return {}
        return {new: students[name] for name, names in sweeps.items() for new in names}


def is_next_key(rest: str, key: str) -> bool:
    """Whether a message goes on with this key of its dotted path."""
    return bool(key) and rest.startswith(key) and rest[len(key) : len(key) + 1] in (".", ":")


def shorten_path(message: str, start: int, written: Mapping[str, KeyPlace]) -> str:
    """A message whose path goes on, from ``start``, in the short form if that is written."""
    for whole, short in SHORT_FORMS.items():
        if is_next_key(message[start:], whole) and short in written:
            return message[:start] + short + message[start + len(whole) :]
    return message


def read_sources(paths: Sequence[Path], given: Mapping[str, Any] | None = None) -> ConfigSource:
    """The configuration in files, merged as Snakemake does: a later file wins, key by key.

    Args:
        paths: the files.
        given: values given on the command line, which win over all files.

    Raises:
        RetortError: a file cannot be read, or a fault found by ``read_yaml``.
    """
    values: dict[str, Any] = {}
    places: dict[str, KeyPlace] = {}
    for path in paths:
        values, places = merge(values, places, *read_yaml(path))
    more = dict(given or {})
    values, places = merge(values, places, more, place_values(more, COMMAND_LINE))
    return ConfigSource(tuple(map(str, paths)), values, places)


def merge(
    values: Mapping, places: Mapping[str, KeyPlace], more: Mapping, its_places: Mapping
) -> tuple[dict, dict[str, KeyPlace]]:
    """Values and places with more of them: mappings are merged, all else is replaced."""
    values, places = dict(values), dict(places)
    for key, value in more.items():
        own, place, name = values.get(key), its_places[str(key)], str(key)
        if isinstance(own, Mapping) and isinstance(value, Mapping):
            value, below = merge(own, places[name].below, value, place.below)
            place = KeyPlace(place.where, below)
        values[key], places[name] = value, place
    return values, places
