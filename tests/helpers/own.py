"""The user's own plug-ins in a folder of a test's, written file by file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import check_plugins
from pipeline.contracts.source_checks import SINGULAR
from pipeline.discovery import use_plugin_folders

SMALLEST = {  # folder -> text of the smallest valid file of its kind
    folder: (check_plugins.EXAMPLES / f"{kind}.py").read_text() for folder, kind in SINGULAR.items()
}


def write(root: Path, name: str, text: str) -> Path:
    """A file below a folder, with the folders above it."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Iterator[Path]:
    """`my_methods/` with the smallest file of each kind, called `tiny_…`, in the working folder."""
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "my_methods"
    for folder, kind in SINGULAR.items():
        write(root, f"{folder}/tiny_{kind}.py", SMALLEST[folder])
    yield root
    use_plugin_folders(())


def refuse(root: Path, folder: str, name: str, text: str) -> str:
    """The fault that ``check`` names in a file, one line."""
    write(root, f"{folder}/{name}.py", text)
    use_plugin_folders([root])
    fault = check_plugins.try_plugin(folder, name, Path("data"))
    assert "\n" not in fault
    return fault
