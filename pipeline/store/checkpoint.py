"""Checkpoints of unfinished training: written atomically, read without running pickled code."""

import pickle
from pathlib import Path

import torch

from pipeline.errors import RetortError, explain_denied_reading
from pipeline.store.artefact import write_atomically

READ_ERRORS = (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError)


def save(path: Path, state: dict) -> None:
    """Writes a state of tensors, numbers, strings, lists and dicts atomically.

    Given a path, torch stores its name inside the archive. Given an open file, it stores no name,
    so equal states give equal bytes.
    """
    with write_atomically(path) as temporary, temporary.open("wb") as file:
        torch.save(state, file)


def load(path: Path, device: str, *, mmap: bool = False) -> dict | None:
    """The saved state, or None without a file; with ``mmap``, its tensors are read on access.

    Raises:
        RetortError: the file cannot be read, or this user may not read it.
    """
    if not path.exists():
        return None
    try:
        with explain_denied_reading(path):
            return torch.load(path, map_location=device, weights_only=True, mmap=mmap)
    except READ_ERRORS as error:  # torch's message has several lines and advises to trust the file
        what = f"is truncated, altered, or not a Retort checkpoint ({type(error).__name__})"
        raise RetortError(f"{path}: {what}; delete it to train from the start") from error
