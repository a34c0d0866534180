"""Write a folder of real images to try Retort with: forty each of three of CIFAR-10's classes.

python write_images.py photos
"""

import sys
from pathlib import Path

from PIL import Image

from pipeline.datasets import cifar10

CLASSES = ("cat", "dog", "frog")
IMAGES_PER_CLASS = 40


def write_images(folder: Path, cache: Path) -> None:
    """Write `folder/<class>/*.png`; CIFAR-10 is read from the cache, or fetched into it first."""
    images, labels = cifar10.load("train", cache)  # (N,3,32,32) uint8, (N,) int64
    for name in CLASSES:
        (folder / name).mkdir(parents=True, exist_ok=True)
        rows = (labels == cifar10.CLASSES.index(name)).nonzero()[0][:IMAGES_PER_CLASS]
        for row in rows:
            Image.fromarray(images[row].transpose(1, 2, 0)).save(folder / name / f"{row}.png")


if __name__ == "__main__":
    write_images(Path(sys.argv[1]), Path("data"))
