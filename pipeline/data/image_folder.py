"""Images in folders, read as one array: resized, cropped, in one fixed random order."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from pipeline.core.seeding import generator
from pipeline.errors import RetortError
from pipeline.progress import Progress

REVISION = 1

SUFFIXES = {".jpeg", ".jpg", ".png"}

Labelled = list[tuple[Path, int]]  # files and their labels


def place_of(path: str, cache: Path, usual: str) -> Path:
    """The folder or file that ``path`` names, as it stands or in the cache; else the usual one.

    Raises:
        RetortError: it is not there.
    """
    given = Path(path or usual).expanduser()
    for place in (given, Path(cache) / given):
        if place.exists():
            return place
    raise RetortError(f"{given}: neither here nor in {cache}; set the source's 'path'")


def pictures(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name.

    Raises:
        RetortError: there is none.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in SUFFIXES)
    if not found:
        raise RetortError(f"{folder}: holds no image; check the source's 'path'")
    return found


def shuffled(files: Labelled, *names: str) -> Labelled:
    """The files in a fixed random order, so that the first rows are of every class."""
    order = torch.randperm(len(files), generator=generator("folders", *names))
    return [files[i] for i in order.tolist()]


def picture(path: Path, size: int, crop: float) -> np.ndarray:
    """An image as (3,size,size) uint8: its shorter side to size / crop, then the centre.

    Raises:
        RetortError: the file is no image, or is cut off.
    """
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise RetortError(f"{path}: not a readable image ({error}); fetch it again") from error
    return centred(image, size, crop)


def centred(image: Image.Image, size: int, crop: float) -> np.ndarray:
    """An opened image as (3,size,size) uint8: its shorter side to size / crop, then the centre."""
    scale = size / crop / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).transpose(2, 0, 1)


def read(files: Labelled, size: int, crop: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,3,size,size) uint8 and labels (N,) int64 of the files, in their order."""
    images = np.empty((len(files), 3, size, size), np.uint8)

    def fill(row: int) -> None:
        images[row] = picture(files[row][0], size, crop)

    progress = Progress("image", len(files))
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(len(files))):
            progress.step()
    return images, np.array([label for _, label in files], np.int64)


def by_class(root: Path, classes: Sequence[str], inner: str = "") -> Labelled:
    """The files of `root/<class>/<inner>`, labelled by the class's place in the list."""
    return [(p, i) for i, name in enumerate(classes) for p in pictures(root / name / inner)]
