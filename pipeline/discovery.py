"""Plug-ins found by file name: a configuration that says `adaad` gets ``objectives/adaad.py``."""

import difflib
import importlib
import importlib.util
import pkgutil
from functools import cache
from types import ModuleType

from pipeline.errors import RetortError

NESTED_PACKAGES = {
    "generator_losses": "data_free.generator_losses"
}  # plug-in folders that lie within another room


def get_package_name(folder: str) -> str:
    """The dotted name of a folder of plug-ins."""
    return f"pipeline.{NESTED_PACKAGES.get(folder, folder)}"


@cache
def list_plugin_names(folder: str) -> tuple[str, ...]:
    """Names of the plug-ins in a folder, sorted."""
    package = importlib.import_module(get_package_name(folder))
    return tuple(sorted(info.name for info in pkgutil.iter_modules(package.__path__)))


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def suggest_known(word: str, known) -> str:
    """The end of an error message: the nearest known word, or the list of all known words."""
    near = difflib.get_close_matches(word, list(known), n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(sorted(known)) or 'none'}"


def load_plugin(folder: str, name: str) -> ModuleType:
    """The module ``<name>.py`` of a folder of plug-ins.

    Raises:
        RetortError: there is no such file.
    """
    if name not in list_plugin_names(folder):
        raise RetortError(
            f"{folder}: '{name}' is unknown{suggest_known(name, list_plugin_names(folder))}"
        )
    return importlib.import_module(f"{get_package_name(folder)}.{name}")


def load_plugins(folder: str) -> list[ModuleType]:
    """Every plug-in module of a folder, in order of name."""
    return [load_plugin(folder, name) for name in list_plugin_names(folder)]
