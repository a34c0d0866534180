"""Strict runs: shapes are checked as the code executes, and no test reaches the network."""

import shutil
import socket

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# The maths carries shapes in its annotations. The hook must precede the modules' first import.
SHAPED = [
    "pipeline.core.threat_models",
    "pipeline.core.losses",
    "pipeline.core.augment",
    "pipeline.core.pgd",
]
install_import_hook(SHAPED, "beartype.beartype")

from pipeline.datasets import cifar10  # noqa: E402
from tests.helpers.copies import Copy  # noqa: E402
from tests.helpers.graph import DATA, Folder, tiny  # noqa: E402

torch.set_num_threads(1)
settings.register_profile("retort", deadline=None, derandomize=True, max_examples=25, database=None)
settings.load_profile("retort")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items):
    """Of two processes one takes all tests on the made experiment, so that it is made once."""
    for item in items:
        group = "made" if "made" in item.fixturenames else str(item.path)
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def declared_data():
    """CIFAR-10 in the shared cache, fetched if it is not there, before any test wants it."""
    for split in cifar10.SIZES:
        cifar10.load(split, DATA)


@pytest.fixture(autouse=True)
def no_network(declared_data, monkeypatch):
    """Refuse connections to other machines; sockets between local processes stay."""
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Folder:
    """The tiny experiment, made once from end to end."""
    folder = Folder(tmp_path_factory.mktemp("tiny"))
    folder.write(tiny())
    folder.make()
    return folder


@pytest.fixture
def copy(made: Folder, tmp_path, monkeypatch, capsys) -> Copy:
    """The made tiny experiment, copied; this process stands in its folder."""
    shutil.copytree(made.path / "store", tmp_path / "store", symlinks=True)
    monkeypatch.chdir(tmp_path)
    here = Copy(tmp_path, capsys)
    here.write(tiny())
    return here
