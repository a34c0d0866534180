"""The data set artefact: splits as uint8 tensors, with what models must know of them."""

from dataclasses import dataclass
from pathlib import Path

from safetensors.torch import load_file

from pipeline.data import lazy_images
from pipeline.data.splits import Split
from pipeline.store.artifact import Artifact, open_artifact

REVISION = 1


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
            return lazy_images.read_split(self.artifact, name)
        tensors = load_file(self.artifact.path(f"{name}.safetensors"))
        return Split(tensors["images"], tensors["labels"])


def open_data(folder: Path) -> Data:
    """The data set in a finished artefact's folder."""
    artifact = open_artifact(folder)
    facts = artifact.manifest.facts
    names = ("classes", "mean", "std", "shape")
    return Data(artifact, **{name: tuple(facts[name]) for name in names})
