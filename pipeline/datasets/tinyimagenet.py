"""Tiny ImageNet (Le and Yang, 2015): 64x64 images of 200 classes, resized, by default to 32 px.

Read from the official folder `tiny-imagenet-200`, which the user unpacks; its labelled validation
images are the test split. Classes are WordNet ids in sorted order (`tinyimagenet.txt`). Both splits
are in a fixed random order.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.data.image_folder import (
    LabelledFiles,
    list_images_by_class,
    locate_source,
    read_images,
    shuffle_files,
)
from pipeline.errors import RetortError

REVISION = 1
COMPONENTS = ("pipeline.core.seeding", "pipeline.data.image_folder")

CLASSES = tuple(Path(__file__).with_suffix(".txt").read_text().split())
DEFAULT_FOLDER = "tiny-imagenet-200"


@dataclass(frozen=True)
class Images:
    """The images of the official folder.

    Attributes:
        path: the folder, by default the data folder's `tiny-imagenet-200`. Not in the key.
        version: a name for its content, to be changed with it.
        size: side to which the images are resized, in pixels.
    """

    path: str = field(default="", metadata={"outside": True})
    version: str = "2015"
    size: int = 32

    def __post_init__(self):
        if self.size < 1:
            raise ValueError(f"size: {self.size} is no side of an image")

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits."""
        return {"train": 100_000, "test": 10_000}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return 3, self.size, self.size

    @property
    def classes(self) -> tuple[str, ...]:
        """WordNet ids."""
        return CLASSES

    def load(self, split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """The images (N,3,size,size) uint8 and labels (N,) int64 of "train" or "test".

        Raises:
            RetortError: the folder is missing, or not the official one.
        """
        root = locate_source(self.path, cache, DEFAULT_FOLDER)
        files = (
            list_images_by_class(root / "train", CLASSES, "images")
            if split == "train"
            else list_test_images(root)
        )
        return read_images(shuffle_files(files, "tinyimagenet", split), self.size)


def list_test_images(root: Path) -> LabelledFiles:
    """The official validation images with the labels of `val_annotations.txt`."""
    table = root / "val" / "val_annotations.txt"
    if not table.is_file():
        raise RetortError(f"{table}: is missing; unpack tiny-imagenet-200.zip completely")
    rows = [line.split("\t")[:2] for line in table.read_text().splitlines()]
    try:
        return [(root / "val" / "images" / name, CLASSES.index(wnid)) for name, wnid in rows]
    except ValueError as error:
        raise RetortError(f"{table}: not the official table ({error})") from error
