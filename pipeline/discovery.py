"""Plug-ins are found by file name: ``objectives/adaad.py`` is what a configuration calls adaad."""

import difflib
import importlib
import pkgutil
from functools import cache
from types import ModuleType

from pipeline.errors import RetortError

PLACES = {"generator_losses": "data_free.generator_losses"}  # rooms that lie within another


def package_of(folder: str) -> str:
    """The dotted name of a folder of plug-ins."""
    return f"pipeline.{PLACES.get(folder, folder)}"


@cache
def names_in(folder: str) -> tuple[str, ...]:
    """Names of the plug-ins in a folder, sorted."""
    package = importlib.import_module(package_of(folder))
    return tuple(sorted(info.name for info in pkgutil.iter_modules(package.__path__)))


def suggestion(word: str, known) -> str:
    """«; did you mean 'x'?» for the nearest known word, or the list of what is known."""
    near = difflib.get_close_matches(word, list(known), n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(sorted(known)) or 'none'}"


def plugin(folder: str, name: str) -> ModuleType:
    """The module ``<name>.py`` of a folder of plug-ins.

    Raises:
        RetortError: there is no such file.
    """
    if name not in names_in(folder):
        raise RetortError(f"{folder}: '{name}' is unknown{suggestion(name, names_in(folder))}")
    return importlib.import_module(f"{package_of(folder)}.{name}")


def modules_in(folder: str) -> list[ModuleType]:
    """Every plug-in module of a folder, in order of name."""
    return [plugin(folder, name) for name in names_in(folder)]
