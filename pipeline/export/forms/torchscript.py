"""TorchScript, traced: images (B,C,H,W) in [0,1] to logits, of any batch B.

A TorchScript archive is code: load only one that you trust.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from pipeline.errors import RetortError
from pipeline.export.finished_model import FinishedModel

NEEDED_PACKAGES = ()
FILE = "model.pt"
EXAMPLE_IMAGES = 2


def write(model: FinishedModel, folder: Path) -> str:
    """Write ``model.pt``; its name.

    Raises:
        RetortError: torch cannot trace the network.
    """
    images = torch.rand(EXAMPLE_IMAGES, *model.shape)
    try:
        with silence_warnings(), torch.no_grad():
            traced = torch.jit.trace(model.module, images, check_trace=False)
            torch.jit.save(traced, folder / FILE)
    except torch.jit.TracingCheckError as error:
        raise RetortError(f"{model.name}: torch cannot trace it; export it --to onnx") from error
    return FILE


def load(path: Path, record: dict) -> nn.Module:
    """The model by ``torch.jit.load``, on the CPU."""
    with silence_warnings():
        return torch.jit.load(path, map_location="cpu")


@contextmanager
def silence_warnings() -> Iterator[None]:
    """In the block torch says neither that TorchScript ages nor what a trace takes for constant.

    Whether the trace gives the same logits at another batch size is seen after the export.
    """
    with warnings.catch_warnings():
        for category in (DeprecationWarning, FutureWarning, torch.jit.TracerWarning):
            warnings.simplefilter("ignore", category)
        yield
