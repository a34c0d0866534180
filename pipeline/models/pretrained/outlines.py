"""Names and shapes of a checkpoint's tensors, read without their numbers: what a plan looks at.

Its tensors are on the meta device. No sum is computed, and no code in the file is run.
"""

import pickle
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch.serialization import get_unsafe_globals_in_checkpoint

from pipeline.errors import RetortError
from pipeline.models.pretrained.checkpoint_files import (
    DOWNLOAD_REMEDY,
    describe_import_remedy,
    extract_first_sentence,
    is_torchscript,
    read_file_header,
)
from pipeline.models.pretrained.safe_unpickle import TensorStub, iterate_tensors, open_checkpoint
from pipeline.models.pretrained.weight_sets import MAX_DEPTH

NAMES_LISTED = 3  # names of foreign classes listed at most


def read_outline(path: Path, sha256: str) -> object:
    """What a file holds, with tensors on the meta device; read once while the file stays the same.

    ``sha256`` is the declared sum, which is not checked.

    Raises:
        RetortError: it is no checkpoint, is cut off, or holds more than tensors.
    """
    about = path.stat()
    return read_unchanged_outline(path, sha256, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=256)
def read_unchanged_outline(path: Path, sha256: str, mtime_ns: int, size: int) -> object:
    """Run ``read_outline``; a file with another time or size is another entry of the cache."""
    if read_file_header(path)[8:9] == b"{":
        return read_safetensors_outline(path)
    checkpoint = open_checkpoint(path)
    if is_torchscript(path):
        return {name: outline_of(stub) for name, stub in iterate_tensors(checkpoint.content)}
    if zipfile.is_zipfile(path) and (foreign := list_foreign_names(path)):
        raise RetortError(
            f"{path}: holds more than tensors ({', '.join(sorted(foreign)[:NAMES_LISTED])}); "
            f"{describe_import_remedy(path, sha256)}"
        )
    return outline_of(checkpoint.content)


def list_foreign_names(path: Path) -> list[str]:
    """What an archive holds that the job will not load: names, or the whole pickle's protocol."""
    try:
        return get_unsafe_globals_in_checkpoint(path)
    except pickle.UnpicklingError:  # torch loads nothing from protocols 4 and 5, nor lists them
        return ["a pickle protocol of its own"]
    except RuntimeError as error:
        raise RetortError(
            f"{path}: cannot be read ({extract_first_sentence(error)}); {DOWNLOAD_REMEDY}"
        ) from error


def read_safetensors_outline(path: Path) -> dict:
    """The outline of a safetensors file, from its header."""
    try:
        with safe_open(path, "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RetortError(
            f"{path}: cannot be read ({extract_first_sentence(error)}); {DOWNLOAD_REMEDY}"
        ) from error
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def outline_of(value: object, depth: int = 0) -> object:
    """A value with meta tensors in place of the tensors that are not read."""
    if isinstance(value, TensorStub):
        return torch.empty(value.shape, device="meta")
    if isinstance(value, Mapping) and depth <= MAX_DEPTH:
        return {name: outline_of(inner, depth + 1) for name, inner in value.items()}
    return value
