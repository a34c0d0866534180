"""Images in folders, read as one array: resized, cropped, in one fixed random order."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from pipeline.core.seeding import make_generator
from pipeline.errors import RetortError, explain_denied_reading
from pipeline.progress import Progress

REVISION = 1

IMAGE_SUFFIXES = {".jpeg", ".jpg", ".png"}

LabelledFiles = list[tuple[Path, int]]  # files and their labels


def locate_source(path: str, cache: Path, default: str) -> Path:
    """The folder or file at ``path`` (or ``default``), looked for as given, then in the cache.

    Raises:
        RetortError: it exists in neither place.
    """
    given = Path(path or default).expanduser()
    for place in (given, Path(cache) / given):
        if place.exists():
            return place
    raise RetortError(f"{given}: neither here nor in {cache}; set the source's 'path'")


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder, sorted by name.

    Raises:
        RetortError: the folder holds no image.
    """
    found = sorted(p for p in folder.glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not found:
        raise RetortError(f"{folder}: holds no image; check the source's 'path'")
    return found


def shuffle_files(files: LabelledFiles, *seed_names: str) -> LabelledFiles:
    """The files in a fixed random order, so that the first rows are of every class."""
    order = torch.randperm(len(files), generator=make_generator("folders", *seed_names))
    return [files[i] for i in order.tolist()]


def read_image(path: Path, size: int, crop: float) -> np.ndarray:
    """An image file as (3,size,size) uint8: shorter side resized to size / crop, centre cropped.

    Raises:
        RetortError: the file is no image, or is truncated.
    """
    try:
        with explain_denied_reading(path), Image.open(path) as opened:
            image = opened.convert("RGB")
    except (UnidentifiedImageError, OSError) as error:
        raise RetortError(f"{path}: not a readable image ({error}); fetch it again") from error
    return resize_and_centre_crop(image, size, crop)


def resize_and_centre_crop(image: Image.Image, size: int, crop: float) -> np.ndarray:
    """An image as (3,size,size) uint8: shorter side resized to size / crop, centre cropped."""
    scale = size / crop / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.crop((left, top, left + size, top + size))
    return np.asarray(image).transpose(2, 0, 1)


def read_images(
    files: LabelledFiles, size: int, crop: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,3,size,size) uint8 and labels (N,) int64 of the files, in the files' order."""
    images = np.empty((len(files), 3, size, size), np.uint8)

    def fill_row(row: int) -> None:
        images[row] = read_image(files[row][0], size, crop)

    progress = Progress("image", len(files))
    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill_row, range(len(files))):
            progress.add_steps()
    return images, np.array([label for _, label in files], np.int64)


def list_images_by_class(root: Path, classes: Sequence[str], subfolder: str = "") -> LabelledFiles:
    """The images of `root/<class>/<subfolder>`, labelled by the class's position in the list."""
    return [(p, i) for i, name in enumerate(classes) for p in list_images(root / name / subfolder)]
