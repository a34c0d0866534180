"""The data set artefact: splits as uint8 tensors, with class names, mean, std and shape."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from safetensors.torch import load_file

from pipeline.data import lazy_images
from pipeline.data.splits import Split
from pipeline.store.artefact import Artefact, open_artefact

REVISION = 1


@dataclass(frozen=True)
class DatasetArtefact:
    """An opened data set artefact; its splits are read on demand."""

    artefact: Artefact
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shape: tuple[int, int, int]

    @property
    def scored_labels(self) -> tuple[int, ...]:
        """The labels that a prediction on the test split may be; empty: all labels."""
        return tuple(self.artefact.manifest.facts.get("scored", ()))

    def read_split(self, name: str) -> Split:
        """The split "train", "val" or "test".

        Raises:
            RetortError: the split's file is missing or altered.
        """
        if "files" in self.artefact.manifest.facts:
            return lazy_images.read_split(self.artefact, name)
        tensors = load_file(self.artefact.get_verified_path(f"{name}.safetensors"))
        parts = self.artefact.manifest.facts.get("parts", ()) if name == "test" else ()
        groups = pa.chunked_array([[part] * rows for part, rows in parts], pa.string())
        return Split(tensors["images"], tensors["labels"], groups if parts else None)


def open_dataset(folder: Path) -> DatasetArtefact:
    """The data set in a finished artefact's folder."""
    artefact = open_artefact(folder)
    facts = artefact.manifest.facts
    names = ("classes", "mean", "std", "shape")
    return DatasetArtefact(artefact, **{name: tuple(facts[name]) for name in names})
