"""Images in one .npz file, such as the generated ones of Rebuffi et al. (2021): `image`, `label`.

The file's last ``test`` rows are the test split, all others the training split.
"""

import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.config.dataset_source import open_dataset_plugin
from pipeline.data.folder_layout import (
    VERSION_PREFIX,
    FoundImages,
    check_version,
    compute_version,
    describe_version,
)
from pipeline.data.image_folder import describe_missing, find_source, locate_source
from pipeline.errors import RetortError, explain_denied_reading, prefix_errors
from pipeline.store.artefact import compute_sha256

REVISION = 1
COMPONENTS = ("pipeline.core.seeding", "pipeline.data.image_folder")


READ_LARGE_HEADER = np.lib.format.read_array_header_2_0
DEFAULT_FILE = "images.npz"
SUM_OR_VERSION = "give it, or in its place 'version', a name for the content"


@dataclass(frozen=True)
class Images:
    """The arrays of one file.

    Attributes:
        path: the file, as given or below the data folder. It is not in the key; the sum is.
        sha256: the file's sum, checked before it is read.
        version: a name for the content in place of a sum; without either, a digest over the names,
            sizes and CRC sums that the file states of its arrays.
        classes_of: the data set whose classes the labels index; "none": the images have no labels.
        size: side of the images, in pixels.
        image: name of the array of images, uint8, (N,H,W,3) or (N,3,H,W).
        label: name of the array of labels (N,).
        test: number of the last rows that are the test split.
    """

    path: str = field(default="", metadata={"outside": True})
    sha256: str = ""
    version: str = ""
    classes_of: str = "cifar10"
    size: int = 32
    image: str = "image"
    label: str = "label"
    test: int = 0

    def __post_init__(self):
        if self.sha256 and self.version:
            raise ValueError(f"sha256: {SUM_OR_VERSION}, not both")
        if self.sha256 and not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ValueError(f"sha256: {self.sha256} is not 64 lower-case hex digits")
        if self.size < 1:
            raise ValueError(f"size: {self.size} is no side of an image")
        if self.test < 0:
            raise ValueError(f"test: {self.test} is no number of rows")
        try:
            known = self.classes_of != "npz" and self.classes is not None
        except RetortError as error:
            raise ValueError(f"classes_of: {error}") from error
        if not known:
            raise ValueError("classes_of: 'npz' has no classes of its own; name another data set")

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits; the training rows are not known before the file is read."""
        return {"train": None, "test": self.test}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return 3, self.size, self.size

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names, none for images without labels."""
        return () if self.classes_of == "none" else open_dataset_plugin(self.classes_of).classes

    def find(self, cache: Path, counts: bool) -> FoundImages:
        """The version if neither it nor a sum is given; with ``counts`` the number of images.

        Raises:
            RetortError: no such file, or it is no .npz file with the named images.
        """
        if not counts and (self.sha256 or self.version):
            return FoundImages()
        path = find_source(self.path, cache, DEFAULT_FILE)
        if path is None:
            what = "path: " if self.sha256 or self.version else f"sha256: {SUM_OR_VERSION}: "
            missing = describe_missing(self.path, cache, DEFAULT_FILE)
            raise RetortError(f"{what}{missing}; set the source's 'path'")
        with prefix_errors("path: "):
            members, rows = read_directory(path, self.image)
        sizes = {"train": rows - self.test, "test": self.test}
        if sizes["train"] < 0:
            raise RetortError(f"test: {self.test} of {rows} images; make it smaller")
        if self.sha256 or self.version:
            return FoundImages({}, sizes)
        version = compute_version(members)
        return FoundImages(
            {"version": version}, sizes, (describe_version(version, len(members), "arrays"),)
        )

    def load(self, split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """The images (N,3,size,size) uint8 and labels (N,) int64 of "train" or "test".

        Raises:
            RetortError: no such file, another sum, or arrays that do not fit the settings.
        """
        path = locate_source(self.path, cache, DEFAULT_FILE)
        if self.version.startswith(VERSION_PREFIX):
            check_version(self.version, read_directory(path, self.image)[0], path)
        if self.sha256 and (found := compute_sha256(path)) != self.sha256:
            raise RetortError(f"{path}: sha256 is {found}, not npz.sha256; is it the right file?")
        arrays = self.read_arrays(path)
        images = self.to_channels_first(arrays[self.image], path)
        labels = np.zeros(len(images), np.int64)
        if self.classes:
            labels = self.check_labels(arrays[self.label], len(images), path)
        kept = len(images) - self.test
        rows = slice(kept) if split == "train" else slice(kept, None)
        return images[rows], labels[rows]

    def read_arrays(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays that the settings name."""
        names = [self.image, *([self.label] if self.classes else [])]
        try:
            with explain_denied_reading(path), np.load(path, allow_pickle=False) as file:
                lacking = [name for name in names if name not in file.files]
                if lacking:
                    raise RetortError(f"{path}: has no array '{lacking[0]}', only {file.files}")
                return {name: file[name] for name in names}
        except (OSError, ValueError, AttributeError, zipfile.BadZipFile) as error:
            raise RetortError(f"{path}: not a readable .npz file ({error})") from error

    def to_channels_first(self, images: np.ndarray, path: Path) -> np.ndarray:
        """Images as (N,3,H,W)."""
        if images.dtype == np.uint8 and images.shape[1:] == (*self.shape[1:], 3):
            return images.transpose(0, 3, 1, 2)
        if images.dtype == np.uint8 and images.shape[1:] == self.shape:
            return images
        raise RetortError(
            f"{path}: '{self.image}' is {images.dtype} {images.shape}, uint8 images of "
            f"{self.size}x{self.size} px in three colours are expected; set the source's 'size'"
        )

    def check_labels(self, labels: np.ndarray, count: int, path: Path) -> np.ndarray:
        """Labels as (N,) int64, each a class."""
        labels = labels.reshape(-1)
        whole = np.issubdtype(labels.dtype, np.integer)
        if not whole or len(labels) != count or not np.isin(labels, range(len(self.classes))).all():
            raise RetortError(
                f"{path}: '{self.label}' holds no labels of {len(self.classes)} classes for "
                f"{count} images; set the source's 'classes_of'"
            )
        return labels.astype(np.int64)


def read_directory(path: Path, image: str) -> tuple[list[tuple[str, int]], int]:
    """Name with CRC, and size, of each array of a file, and the rows of the array of images.

    No array is read.

    Raises:
        RetortError: it is no .npz file, or has no such array.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [(f"{m.filename} {m.CRC:08x}", m.file_size) for m in archive.infolist()]
            with archive.open(f"{image}.npy") as file:
                major, _ = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if major == 1 else READ_LARGE_HEADER
                return members, read(file)[0][0]
    except KeyError as error:
        raise RetortError(f"{path}: has no array '{image}'") from error
    except (OSError, ValueError, IndexError, zipfile.BadZipFile) as error:
        raise RetortError(f"{path}: not a readable .npz file ({error})") from error
