"""The user's own plug-ins: the files of the folders that a configuration names under `plugins`.

The files are read once, so that what is run is what is counted in keys.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.errors import RetortError

PLUGIN_FOLDERS = ("architectures", "attacks", "datasets", "generator_losses", "objectives")
OWN_PACKAGE = "retort_plugins"  # what the folders are called as one Python package, and in keys
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class OwnFile:
    """A file with the bytes that it held when the configuration was read."""

    path: Path
    text: bytes


@dataclass(frozen=True)
class OwnFiles:
    """The Python files of the plug-in folders, by dotted module name."""

    folders: tuple[Path, ...] = ()
    files: dict[str, OwnFile] = field(default_factory=dict)

    def list_names(self, folder: str) -> tuple[str, ...]:
        """Names of the plug-ins of a kind, sorted; a file ``_name.py`` is none."""
        prefix = f"{OWN_PACKAGE}.{folder}."
        names = [m.removeprefix(prefix) for m in self.files if m.startswith(prefix)]
        return tuple(sorted(n for n in names if "." not in n and not n.startswith("_")))

    def has_module(self, module: str) -> bool:
        """Whether a module or package of this name is there."""
        return module in self.files or any(m.startswith(f"{module}.") for m in self.files)


def is_own(module: str) -> bool:
    """Whether a dotted name lies in the plug-in folders."""
    return module.split(".")[0] == OWN_PACKAGE


def show_path(path: Path) -> str:
    """A path as it is shown in messages: relative to the working directory where it lies below."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def read_own_files(folders: Iterable[Path]) -> OwnFiles:
    """The files of the plug-in folders.

    Raises:
        RetortError: a folder is missing or holds no plug-ins, or two have the same file.
    """
    found: dict[str, OwnFile] = {}
    folders = tuple(dict.fromkeys(Path(folder).expanduser().resolve() for folder in folders))
    for folder in folders:
        check_folder(folder)
        for path in iterate_python_files(folder):
            name = ".".join([OWN_PACKAGE, *path.relative_to(folder).with_suffix("").parts])
            name = name.removesuffix(".__init__")
            if name in found:
                raise RetortError(
                    f"plugins: {show_path(path)} and {show_path(found[name].path)} have the same "
                    "name; rename one"
                )
            try:
                found[name] = OwnFile(path, path.read_bytes())
            except OSError as error:
                raise RetortError(
                    f"plugins: {show_path(path)}: cannot be read ({error.strerror})"
                ) from error
    return OwnFiles(folders, found)


def check_folder(folder: Path) -> None:
    """Checks that a folder has plug-ins where they are looked for.

    Raises:
        RetortError: it has not.
    """
    shown, kinds = show_path(folder), ", ".join(f"{kind}/" for kind in PLUGIN_FOLDERS)
    if not folder.is_dir():
        raise RetortError(f"plugins: {shown}: there is no such folder; name one that holds {kinds}")
    inside = sorted(path.name for path in folder.iterdir() if path.is_dir())
    for name in inside:
        near = difflib.get_close_matches(name, PLUGIN_FOLDERS, n=1, cutoff=0.75)
        if near and name not in PLUGIN_FOLDERS:
            raise RetortError(f"plugins: {shown}/{name}: is unknown; did you mean '{near[0]}/'?")
    if not set(inside) & set(PLUGIN_FOLDERS):
        raise RetortError(
            f"plugins: {shown}: holds none of {kinds}; put each file in the folder of its kind"
        )
    for kind in set(inside) & set(PLUGIN_FOLDERS):
        for path in (folder / kind).glob("*.py"):
            if not path.name.startswith("_") and not NAME_PATTERN.fullmatch(path.stem):
                raise RetortError(
                    f"plugins: {show_path(path)}: a name has letters, digits, '_' and '-' alone; "
                    "rename the file"
                )


def iterate_python_files(folder: Path) -> Iterator[Path]:
    """The files at the top of a folder, those of its kinds, and those of its packages."""
    yield from sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        is_kind = place.name in PLUGIN_FOLDERS
        if is_kind or (place / "__init__.py").exists():
            own_init = place / "__init__.py" if is_kind else None
            yield from sorted(path for path in place.rglob("*.py") if path != own_init)
