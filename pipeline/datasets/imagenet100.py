"""ImageNet-100: the classes 0, 10, ..., 990 of ILSVRC 2012, read from its folders.

Papers use several lists of a hundred classes and seldom name theirs; this one is in
`imagenet100.txt` beside this file: WordNet ids with names, every tenth of the thousand in sorted
order. The official validation images are the test split. Both splits are in a fixed random order.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.data.image_folder import (
    list_images_by_class,
    locate_source,
    read_images,
    shuffle_files,
)

REVISION = 1
COMPONENTS = ("pipeline.core.seeding", "pipeline.data.image_folder")

CLASS_LINES = Path(__file__).with_suffix(".txt").read_text().splitlines()
WNIDS = tuple(line.partition(" ")[0] for line in CLASS_LINES)
CLASSES = tuple(line.partition(" ")[2] for line in CLASS_LINES)
CROP_SHARE = 224 / 256  # share of the shorter side that the centre crop keeps


@dataclass(frozen=True)
class Images:
    """The folders `train/<wnid>/` and `val/<wnid>/`, of a hundred classes or of all thousand.

    Attributes:
        path: their folder, by default the data folder's `imagenet`. Not in the key.
        version: a name for their content, to be changed with it.
        size: side of the centre crop, in pixels; the shorter side is resized to 8/7 of it. All
            images are held as one array: at 224 px, 19 GB for all training images.
    """

    path: str = field(default="", metadata={"outside": True})
    version: str = "ilsvrc2012"
    size: int = 224

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size: {self.size} is no side of an image")

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits, None where unknown; classes have 732 to 1300 training images."""
        return {"train": None, "test": 5000}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return 3, self.size, self.size

    @property
    def classes(self) -> tuple[str, ...]:
        """Names in the order of their WordNet ids."""
        return CLASSES

    def load(self, split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """The images (N,3,size,size) uint8 and labels (N,) int64 of "train" or "test".

        Raises:
            RetortError: a folder is missing, or an image cannot be read.
        """
        root = locate_source(self.path, cache, "imagenet")
        folder = root / ("train" if split == "train" else "val")
        return read_images(
            shuffle_files(list_images_by_class(folder, WNIDS), "imagenet100", split),
            self.size,
            CROP_SHARE,
        )
