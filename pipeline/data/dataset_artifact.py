"""The data set artefact: splits as uint8 tensors, with what models must know of them."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pyarrow as pa
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.store.artifact import Artifact
from pipeline.store.artifact import open_artifact
from pipeline.store.artifact import replacing

REVISION = 1

SPLITS = ("train", "val", "test")
LAZY = "pipeline.data.lazy_images"  # found by name: only keys of what is made from such sets count its code


@dataclass(frozen=True)
class Split:
    """Images (N,C,H,W) uint8 and labels (N,) int64, in order of source row.

    Images of a large set are a `lazy.FileImages` in a tensor's place: indexed, sliced, asked for
    their length and shape and sent to a device alike, but read when they are indexed. ``groups``
    names the part of a test set that each row belongs to, if it has parts.
    """

    images: Tensor
    labels: Tensor
    groups: pa.ChunkedArray | None = None


@dataclass(frozen=True)
class Data:
    """An opened data set artefact; a split is read when it is asked for."""

    artifact: Artifact
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]

    @property
    def scored(self) -> tuple[int, ...]:
        """Labels among which alone a prediction on the test split is made; none: all."""
        return tuple(self.artifact.manifest.facts.get("scored", ()))

    def split(self, name: str) -> Split:
        """One of train, val and test.

        Raises:
            RetortError: its file is missing or altered.
        """
        if "files" in self.artifact.manifest.facts:
            return import_module(LAZY).read_split(self.artifact, name)
        tensors = load_file(self.artifact.path(f"{name}.safetensors"))
        return Split(tensors["images"], tensors["labels"])


def open_data(folder: Path) -> Data:
    """The data set in a finished artefact's folder."""
    artifact = open_artifact(folder)
    facts = artifact.manifest.facts
    names = ("classes", "mean", "std", "shape")
    return Data(artifact, **{name: tuple(facts[name]) for name in names})


def save_split(path: Path, split: Split) -> None:
    """Write one split atomically."""
    with replacing(path) as temporary:
        save_file({"images": split.images, "labels": split.labels}, temporary)
