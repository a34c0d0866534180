"""The splits of a data set: images and labels in order of source row."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from safetensors.torch import save_file
from torch import Tensor

from pipeline.store.artefact import write_atomically

REVISION = 1

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Images (N,C,H,W) uint8 and labels (N,) int64, in order of source row.

    Images of a large set are a `lazy_images.FileImages`: it has a tensor's indexing, slicing,
    length, shape and ``to``, and reads images when they are indexed. ``groups`` names the part of
    a test set that each row belongs to, if the set has parts.
    """

    images: Tensor
    labels: Tensor
    groups: pa.ChunkedArray | None = None


def save_split(path: Path, split: Split) -> None:
    """Write one split atomically."""
    with write_atomically(path) as temporary:
        save_file({"images": split.images, "labels": split.labels}, temporary)
