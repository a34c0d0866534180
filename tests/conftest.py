"""Strict runs: shapes are checked as the code executes, and no test reaches the network."""

import socket

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# The maths carries shapes in its annotations. The hook must precede the modules' first import.
SHAPED = ["pipeline.threat", "pipeline.losses", "pipeline.augment", "pipeline.ascent"]
install_import_hook(SHAPED, "beartype.beartype")

torch.set_num_threads(1)
settings.register_profile("retort", deadline=None, derandomize=True, max_examples=25, database=None)
settings.load_profile("retort")


@pytest.fixture(autouse=True)
def no_network(monkeypatch, request):
    """Refuse connections to other machines; sockets between local processes stay.

    A test marked ``fetches`` may get the declared data.
    """
    if request.node.get_closest_marker("fetches"):
        return
    connect = socket.socket.connect

    def refuse(self, address):
        if self.family != socket.AF_UNIX:
            raise AssertionError(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)
