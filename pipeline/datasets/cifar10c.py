"""CIFAR-10-C (Hendrycks and Dietterich, ICLR 2019), the published files: a test set with parts.

`<path>/<corruption>.npy` holds CIFAR-10's test images five times, mild before strong,
and `<path>/labels.npy` their labels. A part is a corruption at a severity.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.core.corruptions.names import BENCHMARK
from pipeline.data import npy_files
from pipeline.data.folder_layout import FoundImages
from pipeline.datasets import cifar10

REVISION = 1
COMPONENTS = (
    "pipeline.core.seeding",
    "pipeline.data.image_folder",
    "pipeline.data.npy_files",
    "pipeline.data.source_files",
    "pipeline.datasets.cifar10",
)

DEFAULT_FOLDER = "CIFAR-10-C"


@dataclass(frozen=True)
class Images:
    """The images of some corruptions and severities.

    Attributes:
        path: the folder, as given or below the data folder. Not in the key.
        version: a name for its content; a digest over the files' names and sizes unless given.
        names: the corruptions; the benchmark's fifteen unless given.
        severities: of 1 (mild) to 5.
        images: number of first images of each corruption and severity.
    """

    path: str = field(default="", metadata={"outside": True})
    version: str = ""
    names: tuple[str, ...] = BENCHMARK
    severities: tuple[int, ...] = npy_files.SEVERITIES
    images: int = npy_files.IMAGES_PER_SEVERITY

    def __post_init__(self):
        npy_files.check_parts(self.names, self.severities, self.images)

    @property
    def taken(self) -> npy_files.CorruptedFiles:
        """What is taken of the published files."""
        about = (self.path, self.version, self.names, self.severities, self.images)
        return npy_files.CorruptedFiles(DEFAULT_FOLDER, len(self.classes), *about)

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits; there are no training images."""
        return self.taken.sizes

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return npy_files.SHAPE

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order, those of CIFAR-10."""
        return cifar10.CLASSES

    @property
    def parts(self) -> tuple[tuple[str, int], ...]:
        """Name and number of rows of each part of the test split, in order."""
        return npy_files.list_parts(self.names, self.severities, self.images)

    def find(self, cache: Path, counts: bool) -> FoundImages:
        """The version if none is given.

        Raises:
            RetortError: the folder or one of its files is missing.
        """
        return self.taken.find(cache)

    def load(self, split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """The images (N,3,32,32) uint8 and labels (N,) int64 of "train" or "test".

        Raises:
            RetortError: a file is missing, was changed, or does not hold the published form.
        """
        return self.taken.load(split, cache)
