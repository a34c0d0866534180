"""Checkpoints of unfinished work: atomic, and read back without unpickling code."""

import pickle
from pathlib import Path

import torch

from pipeline.errors import RetortError
from pipeline.store.artefact import write_atomically

READ_ERRORS = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError)


def save(path: Path, state: dict) -> None:
    """Write a state of tensors, numbers, strings, lists and dicts atomically.

    Torch names the archive inside after the file it is given a path to; an open file has no
    name, so that equal states are equal bytes.
    """
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def load(path: Path, device: str, *, mmap: bool = False) -> dict | None:
    """The saved state, None if there is none; ``mapped``: its tensors are read when looked at.

    Raises:
        RetortError: the file cannot be read.
    """
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except READ_ERRORS as error:  # torch's own text runs over lines and advises to trust the file
        what = f"is cut, altered, or no checkpoint of ours ({type(error).__name__})"
        raise RetortError(f"{path}: {what}; delete it to train from the start") from error
