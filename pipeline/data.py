"""The data set artefact: splits as uint8 tensors, with what models must know of them."""

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.artifact import Artifact, open_artifact, replacing

REVISION = 1

SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Split:
    """Images (N,C,H,W) uint8 and labels (N,) int64, in order of source row."""

    images: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Data:
    """An opened data set artefact; a split is read when it is asked for."""

    artifact: Artifact
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]

    def split(self, name: str) -> Split:
        """One of train, val and test.

        Raises:
            RetortError: its file is missing or altered.
        """
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
