"""Checkpoints of unfinished work: atomic, and read back without unpickling code."""

from pathlib import Path

import torch

from pipeline.artifact import replacing
from pipeline.errors import RetortError


def save(path: Path, state: dict) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts atomically.

    Torch names the archive inside after the file it is given a path to; an open file has no
    name, so that equal states are equal bytes.
    """
    with replacing(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def restore(path: Path, device: str) -> dict | None:
    """The saved state, None if there is none.

    Raises:
        RetortError: the file cannot be read.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        remedy = "delete it to train from the start"
        raise RetortError(f"{path}: is not a checkpoint ({error}); {remedy}") from error
