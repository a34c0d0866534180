"""CIFAR-10.1 (Recht et al., ICML 2019), the published files: new test images of CIFAR-10's classes.

Version v6 has 2,000 images, the same number of every class; v4 has 2,021.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data import npy_files
from pipeline.data.image_folder import locate_source
from pipeline.datasets import cifar10
from pipeline.errors import RetortError

REVISION = 1
COMPONENTS = (
    "pipeline.core.seeding",
    "pipeline.data.image_folder",
    "pipeline.data.npy_files",
    "pipeline.data.source_files",
    "pipeline.datasets.cifar10",
)

DEFAULT_FOLDER = "CIFAR-10.1"
COUNTS = {"v4": 2021, "v6": 2000}


@dataclass(frozen=True)
class Images:
    """The images of one version.

    Attributes:
        path: the folder with `cifar10.1_v6_data.npy` and `cifar10.1_v6_labels.npy`, as given or
            below the data folder. Not in the key.
        version: "v6" or "v4".
    """

    path: str = field(default="", metadata={"outside": True})
    version: Literal["v4", "v6"] = "v6"

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits; there are no training images."""
        return {"train": 0, "test": COUNTS[self.version]}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return npy_files.SHAPE

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order, those of CIFAR-10."""
        return cifar10.CLASSES

    def load(self, split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """The images (N,3,32,32) uint8 and labels (N,) int64 of "train" or "test".

        Raises:
            RetortError: a file is missing, or does not hold the published form.
        """
        if split == "train":
            return np.empty((0, *npy_files.SHAPE), np.uint8), np.empty(0, np.int64)
        folder, name = locate_source(self.path, cache, DEFAULT_FOLDER), f"cifar10.1_{self.version}"
        path, count = folder / f"{name}_data.npy", COUNTS[self.version]
        images = npy_files.open_images(path)
        if len(images) != count:
            raise RetortError(f"{path}: {len(images)} images, {count} are published")
        labels = npy_files.read_labels(folder / f"{name}_labels.npy", count, len(self.classes))
        return npy_files.check_range(images[:], path).transpose(0, 3, 1, 2), labels
