"""Published test sets in `.npy` files: CIFAR-10-C, CIFAR-100-C, CIFAR-10.1.

A file is checked before it is used: an array of other shape, type or range is refused in one line.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.core.corruptions.names import CORRUPTIONS
from pipeline.data.folder_layout import (
    VERSION_PREFIX,
    FoundImages,
    check_version,
    compute_version,
)
from pipeline.data.image_folder import describe_missing, find_source, locate_source
from pipeline.errors import RetortError, explain_denied_reading

REVISION = 1

SIDE = 32  # pixels
SHAPE = (3, SIDE, SIDE)
SEVERITIES = (1, 2, 3, 4, 5)
IMAGES_PER_SEVERITY = 10_000
LABELS = "labels.npy"


def open_array(path: Path) -> np.ndarray:
    """The array of a file, not read before it is used.

    Raises:
        RetortError: no such file, or it is no array.
    """
    if not path.is_file():
        raise RetortError(f"{path} is missing; unpack the published archive there")
    try:
        with explain_denied_reading(path):
            return np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise RetortError(f"{path}: not a readable .npy file ({error})") from error


def open_images(path: Path) -> np.ndarray:
    """Images (N,32,32,3) uint8 of a file, not read before they are used.

    Raises:
        RetortError: no such file, or an array of another shape or type.
    """
    images = open_array(path)
    if images.dtype == np.uint8 and images.shape[1:] == (SIDE, SIDE, 3):
        return images
    hint = ""
    if images.shape[1:] == SHAPE:
        hint = "; move its axis of colours to the end"
    elif images.dtype.kind == "f":
        hint = "; multiply pixels of [0,1] by 255, round, and store them as uint8"
    raise RetortError(
        f"{path}: {images.dtype} {images.shape}, uint8 (N, {SIDE}, {SIDE}, 3) is expected{hint}"
    )


def check_range(images: np.ndarray, path: Path) -> np.ndarray:
    """The images, unless every value is 0 or 1.

    Raises:
        RetortError: floats of [0,1] were cut to whole numbers when they were stored.
    """
    if images.size and images.max() <= 1:
        raise RetortError(
            f"{path}: every pixel is 0 or 1: images of [0,1] were stored as uint8; multiply by 255 "
            "and round before that"
        )
    return images


def read_labels(path: Path, count: int, class_count: int) -> np.ndarray:
    """Labels (N,) int64 of a file with as many rows as images.

    Raises:
        RetortError: no such file, another number of labels, or labels that are no classes.
    """
    labels = open_array(path)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise RetortError(
            f"{path}: {labels.dtype} {labels.shape}, whole numbers ({count},) are expected, one an "
            "image"
        )
    if fault := describe_bad_labels(labels, class_count):
        raise RetortError(f"{path}: {fault}")
    return labels.astype(np.int64)


def describe_bad_labels(labels: np.ndarray, class_count: int) -> str:
    """What is wrong with labels (N,) that index so many classes; empty if nothing is."""
    if not len(labels) or (labels.min() >= 0 and labels.max() < class_count):
        return ""
    hint = (
        "; they begin at 1, subtract 1" if (labels.min(), labels.max()) == (1, class_count) else ""
    )
    return f"a label is {labels.max()} or {labels.min()}, outside 0 to {class_count - 1}{hint}"


def check_parts(names: Sequence[str], severities: Sequence[int], images: int) -> None:
    """Raises ValueError unless corruptions, severities and number of images are of the set's."""
    unknown = [name for name in names if name not in CORRUPTIONS]
    if unknown or not names or len(set(names)) < len(names):
        wrong = f"unknown {', '.join(unknown)}" if unknown else "none, or one twice"
        raise ValueError(f"names: {wrong}; choose from {', '.join(CORRUPTIONS)}")
    if not severities or not set(severities) <= set(SEVERITIES):
        raise ValueError(f"severities: {list(severities)} are not among 1 to 5")
    if not 1 <= images <= IMAGES_PER_SEVERITY:
        raise ValueError(f"images: {images} is outside 1 to {IMAGES_PER_SEVERITY}")


def list_parts(
    names: Sequence[str], severities: Sequence[int], images: int
) -> tuple[tuple[str, int], ...]:
    """Name and number of rows of each part: corruption by corruption, mild before strong."""
    return tuple((f"{name}-{severity}", images) for name in names for severity in severities)


def read_corruptions(
    folder: Path, names: Sequence[str], severities: Sequence[int], images: int, class_count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The first images (N,3,32,32) uint8 of every part, and their labels (N,) int64.

    Raises:
        RetortError: a file is missing, or does not hold the published form.
    """
    whole = IMAGES_PER_SEVERITY * len(SEVERITIES)
    labels = read_labels(folder / LABELS, whole, class_count)
    rows = np.concatenate([np.arange(images) + IMAGES_PER_SEVERITY * (s - 1) for s in severities])
    made = np.empty((len(names), len(rows), *SHAPE), np.uint8)
    for place, name in enumerate(names):
        path = folder / f"{name}.npy"
        stored = open_images(path)
        if len(stored) != whole:
            raise RetortError(f"{path}: {len(stored)} images, {whole} are published")
        made[place] = check_range(stored[rows], path).transpose(0, 3, 1, 2)
    return made.reshape(-1, *SHAPE), np.tile(labels[rows], len(names))


def list_sizes(folder: Path, names: Sequence[str]) -> list[tuple[str, int]]:
    """Name and size in bytes of some files of a folder.

    Raises:
        RetortError: one of them is missing.
    """
    lacking = [name for name in names if not (folder / name).is_file()]
    if lacking:
        raise RetortError(f"{folder / lacking[0]} is missing; unpack the published archive there")
    return [(name, (folder / name).stat().st_size) for name in names]


def find_version(folder: Path, names: Sequence[str], class_count: int) -> str:
    """A digest over names and sizes of files of images, and of their labels'.

    Raises:
        RetortError: a file is missing, or does not hold the published form; pixels are not read.
    """
    version = compute_version(list_sizes(folder, [*names, LABELS]))
    counts = {len(open_images(folder / name)) for name in names}
    read_labels(folder / LABELS, max(counts), class_count)
    return version


def check_files(version: str, folder: Path, names: Sequence[str]) -> None:
    """Raises RetortError unless a digest over names and sizes of some files is the given one."""
    check_version(version, list_sizes(folder, names), folder)


@dataclass(frozen=True)
class CorruptedFiles:
    """A folder of corrupted test images, as CIFAR-10-C is published, and what is taken of it.

    Attributes:
        default_folder: name of the folder below the data folder if no path is given.
        class_count: number of classes.
        path: the folder, as given or below the data folder; empty for the default.
        version: a name for its content, or a digest over its files' names and sizes.
        names: the corruptions.
        severities: of 1 (mild) to 5.
        images: number of first images of each corruption and severity.
    """

    default_folder: str
    class_count: int
    path: str
    version: str
    names: tuple[str, ...]
    severities: tuple[int, ...]
    images: int

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits; there are no training images."""
        return {"train": 0, "test": len(self.names) * len(self.severities) * self.images}

    @property
    def files(self) -> list[str]:
        """The files of images that are read."""
        return [f"{name}.npy" for name in self.names]

    def find(self, cache: Path) -> FoundImages:
        """The version if none is given.

        Raises:
            RetortError: the folder or one of its files is missing.
        """
        if self.version:
            return FoundImages()
        folder = find_source(self.path, cache, self.default_folder)
        if folder is None:
            missing = describe_missing(self.path, cache, self.default_folder)
            raise RetortError(f"path: {missing}; unpack the published archive")
        return FoundImages({"version": find_version(folder, self.files, self.class_count)})

    def load(self, split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """The images (N,3,32,32) uint8 and labels (N,) int64 of "train" or "test".

        Raises:
            RetortError: a file is missing, was changed, or does not hold the published form.
        """
        if split == "train":
            return np.empty((0, *SHAPE), np.uint8), np.empty(0, np.int64)
        folder = locate_source(self.path, cache, self.default_folder)
        if self.version.startswith(VERSION_PREFIX):
            check_files(self.version, folder, [*self.files, LABELS])
        return read_corruptions(folder, self.names, self.severities, self.images, self.class_count)
