"""Plug-ins found by file name: a configuration that says `adaad` gets ``objectives/adaad.py``.

The user's own files are found like ours, in the folders that a configuration names. They are
imported as one package, `OWN_PACKAGE`.
"""

import difflib
import importlib
import importlib.machinery
import importlib.util
import pkgutil
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import CodeType, ModuleType

from pipeline.contracts.forms import complete_plugin
from pipeline.contracts.own_files import (
    OWN_PACKAGE,
    PLUGIN_FOLDERS,
    OwnFile,
    OwnFiles,
    is_own,
    read_own_files,
    show_path,
)
from pipeline.contracts.source_checks import check_source, read_name_pattern
from pipeline.errors import RetortError, is_disk_full, is_out_of_memory

NESTED_PACKAGES = {
    "generator_losses": "data_free.generator_losses"
}  # plug-in folders that lie within another room

_own = OwnFiles()  # the files of the plug-in folders in use
_caches: list[Callable] = []  # what was found out about plug-ins by name


def cache_by_plugins(function: Callable) -> Callable:
    """A function whose results are kept until other plug-in folders are used."""
    cached = cache(function)
    _caches.append(cached)
    return cached


def get_package_name(folder: str) -> str:
    """The dotted name of a folder of plug-ins."""
    return f"pipeline.{NESTED_PACKAGES.get(folder, folder)}"


def use_plugin_folders(folders: Iterable[Path]) -> None:
    """Makes the plug-ins of these folders known beside ours, and those of no other folder.

    Files that have changed since they were last used are read anew.

    Raises:
        RetortError: a folder holds no plug-ins, or a name is taken.
    """
    global _own
    found = read_own_files(folders)
    if found == _own:
        return
    _own = found
    for name in [name for name in sys.modules if is_own(name)]:
        del sys.modules[name]
    for cached in _caches:
        cached.cache_clear()
    if not any(isinstance(finder, OwnImporter) for finder in sys.meta_path):
        sys.meta_path.insert(0, OwnImporter())
    try:
        for folder in PLUGIN_FOLDERS:
            check_names_are_free(folder)
    except RetortError:
        _own = OwnFiles()
        raise


def check_names_are_free(folder: str) -> None:
    """Raises RetortError if an own plug-in has the name of one of ours."""
    for name in _own.list_names(folder):
        taken = name in list_builtin_names(folder)
        what = f"'{name}' is one of ours already"
        for family in load_plugins(folder) if folder == "architectures" and not taken else ():
            if family.NAME_PATTERN.fullmatch(name):
                taken = True
                what = f"'{name}' fits our pattern {family.NAME_FORMAT} of {family.__name__}"
        if taken:
            path = _own.files[f"{OWN_PACKAGE}.{folder}.{name}"].path
            ours = f"{get_package_name(folder).replace('.', '/')}/"
            raise RetortError(f"plugins: {show_path(path)}: {what}, in {ours}; rename the file")


@cache
def list_builtin_names(folder: str) -> tuple[str, ...]:
    """Names of our plug-ins in a folder, sorted."""
    package = importlib.import_module(get_package_name(folder))
    return tuple(sorted(info.name for info in pkgutil.iter_modules(package.__path__)))


def is_installed(package: str) -> bool:
    """Whether a package can be imported, without importing it."""
    return importlib.util.find_spec(package) is not None


def list_own_names(folder: str) -> tuple[str, ...]:
    """Names of the user's own plug-ins of a kind, sorted."""
    return _own.list_names(folder)


def list_plugin_names(folder: str) -> tuple[str, ...]:
    """Names of all plug-ins of a kind, sorted."""
    return tuple(sorted((*list_builtin_names(folder), *_own.list_names(folder))))


def find_own_file(module: str) -> OwnFile | None:
    """The file of a module in the plug-in folders; None if they have none."""
    return _own.files.get(module)


def get_module_name(folder: str, name: str) -> str:
    """The dotted name of a plug-in, ours or the user's own."""
    own = name in _own.list_names(folder)
    return f"{OWN_PACKAGE}.{folder}.{name}" if own else f"{get_package_name(folder)}.{name}"


def suggest_known(word: str, known) -> str:
    """The end of an error message: the nearest known word, or the list of all known words."""
    near = difflib.get_close_matches(word, list(known), n=1)
    if near:
        return f"; did you mean '{near[0]}'?"
    return f"; known: {', '.join(sorted(known)) or 'none'}"


def load_plugin(folder: str, name: str) -> ModuleType:
    """The module ``<name>.py`` of a folder of plug-ins.

    Raises:
        RetortError: there is no such file, or it is not what a plug-in of its kind must be.
    """
    if name in list_builtin_names(folder):
        return import_builtin(folder, name)
    if name in _own.list_names(folder):
        return load_own_plugin(folder, name)
    known = list_plugin_names(folder)
    raise RetortError(f"{folder}: '{name}' is unknown{suggest_known(name, known)}")


@cache
def import_builtin(folder: str, name: str) -> ModuleType:
    """One of our plug-ins."""
    return importlib.import_module(f"{get_package_name(folder)}.{name}")


def load_plugins(folder: str) -> list[ModuleType]:
    """Every one of our plug-in modules of a folder, in order of name."""
    return [load_plugin(folder, name) for name in list_builtin_names(folder)]


@cache_by_plugins
def load_own_plugin(folder: str, name: str) -> ModuleType:
    """The user's own plug-in, its form checked and what it leaves out filled in."""
    module_name = f"{OWN_PACKAGE}.{folder}.{name}"
    check_source(folder, _own, module_name)
    with name_plugin_faults():
        try:
            module = importlib.import_module(module_name)
        except SystemExit as error:
            path = show_path(_own.files[module_name].path)
            raise RetortError(
                f"{find_own_place(error) or path}: ends Python when it is imported; put that under "
                "'if __name__ == \"__main__\":'"
            ) from error
    check_import_names()
    with name_plugin_faults():
        complete_plugin(folder, name, module, _own.files[module_name])
    return module


def describe_plugin(instance: object) -> str:
    """The file of a plug-in's class as it is shown in messages; ours by their module."""
    return describe_module(type(instance).__module__)


def describe_module(module: str) -> str:
    """The file of one of the user's own modules as it is shown in messages; ours by its name."""
    file = _own.files.get(module)
    return show_path(file.path) if file is not None else module


def check_import_names() -> None:
    """Raises RetortError if a file was also imported by a name that keys do not see."""
    paths = {str(file.path) for file in _own.files.values()}
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path in paths and not is_own(name) and name != "__main__":
            raise RetortError(
                f"{show_path(Path(path))}: is imported as '{name}', which keys do not see; import "
                "it relatively: 'from . import name' beside it, 'from .. import name' above"
            )


def list_own_model_names() -> dict[str, str]:
    """What the user's own architectures are called: for each file, the pattern of its names."""
    found = {}
    for name in _own.list_names("architectures"):
        text = _own.files[f"{OWN_PACKAGE}.architectures.{name}"].text
        found[name] = read_name_pattern(name, text)
    return found


@contextmanager
def name_plugin_faults() -> Iterator[None]:
    """Turns what the user's own code raises in the block into one line with its file and line.

    A full disk and a lack of memory pass unchanged.

    Raises:
        RetortError: the user's own code raised something else.
    """
    try:
        yield
    except RetortError:
        raise
    except Exception as error:
        place = find_own_place(error)
        if place is None or is_out_of_memory(error):
            raise
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())
        line = f"{place}: {type(error).__name__}: {text}"
        raise RetortError(line, logs_cause=True) from error


def find_own_place(error: BaseException) -> str | None:
    """`file:line` of the innermost of the user's own lines that an error passed; None if none."""
    paths = {str(file.path) for file in _own.files.values()}
    if isinstance(error, SyntaxError) and error.filename in paths:
        return f"{show_path(Path(error.filename))}:{error.lineno}"
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.filename in paths]
    return f"{show_path(Path(frames[-1].filename))}:{frames[-1].lineno}" if frames else None


class OwnImporter:
    """Imports the modules of the plug-in folders from what was read; it uses no bytecode files."""

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of a module or package of the folders; None for all others."""
        if not (is_own(name) and _own.has_module(name)):
            return None
        file = _own.files.get(name)
        is_package = file is None or file.path.name == "__init__.py"
        spec = importlib.machinery.ModuleSpec(
            name, self, origin=str(file.path) if file else None, is_package=is_package
        )
        spec.has_location = file is not None
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Leaves it to Python to make the module."""

    def get_code(self, name: str) -> CodeType:
        """The compiled text of a module as it was read; a package without a file is empty."""
        file = _own.files.get(name)
        text, path = (b"", name) if file is None else (file.text, str(file.path))
        return compile(text, path, "exec", dont_inherit=True)

    exec_module = importlib.machinery.SourceFileLoader.exec_module  # runs what get_code gives
