"""Fashion-MNIST (Xiao et al., 2017): grey 28x28 images of ten kinds of clothes, official order.

It is read from the four IDX files, plain or gzipped, each checked against the sum of its plain
bytes, so that a recompressed copy serves as well. They come from the first place that has them:

1. the folder that RETORT_FASHION_MNIST names (then no other place is tried), or the cache;
2. the folder of Debian's package dataset-fashion-mnist;
3. the official files, by torchvision's downloader.
"""

import gzip
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from pipeline.data.source_files import compute_sha256, download_file, write_atomically
from pipeline.errors import RetortError, explain_denied_reading, is_disk_full

REVISION = 1
COMPONENTS = ("pipeline.data.source_files",)

CLASSES = (
    *("t-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
NATIVE_SIDE, SUPPORTED_SIDES = 28, (16, 28, 32)
HEADER_BYTES = {"images": 16, "labels": 8}  # bytes before the first value of an IDX file
FILE_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
SPLIT_FILES = {  # the images and the labels of a split
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
ENV_VARIABLE = "RETORT_FASHION_MNIST"
SYSTEM_FOLDER = Path("/usr/share/datasets/fashion-mnist")

log = logging.getLogger("retort")


@dataclass(frozen=True)
class Images:
    """All 60,000 and 10,000 images in one channel.

    Attributes:
        side: of the images, in pixels: 28 as published; 32 with a black frame of two pixels; 16
            resized, bilinear with antialiasing.
    """

    side: int = NATIVE_SIDE

    def __post_init__(self):
        if self.side not in SUPPORTED_SIDES:
            raise ValueError(f"side: {self.side} is none of {', '.join(map(str, SUPPORTED_SIDES))}")

    @property
    def sizes(self) -> dict[str, int | None]:
        """Rows of the splits."""
        return {"train": 60000, "test": 10000}

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C,H,W)."""
        return 1, self.side, self.side

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in label order."""
        return CLASSES

    def load(self, split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
        """The images (N,1,side,side) uint8 and labels (N,) int64 of "train" or "test".

        Raises:
            RetortError: a file was altered, the named folder lacks one, or no source has it.
        """
        images, labels = (load_file_bytes(name, Path(cache)) for name in SPLIT_FILES[split])
        values = np.frombuffer(images, np.uint8, offset=HEADER_BYTES["images"])
        targets = np.frombuffer(labels, np.uint8, offset=HEADER_BYTES["labels"])
        return resize_images(
            values.reshape(-1, 1, NATIVE_SIDE, NATIVE_SIDE), self.side
        ), targets.astype(np.int64)


def resize_images(images: np.ndarray, side: int) -> np.ndarray:
    """Images (N,1,28,28) uint8 at another side, rounded to grey levels."""
    if side >= NATIVE_SIDE:
        frame = (side - NATIVE_SIDE) // 2
        return np.pad(images, ((0, 0), (0, 0), (frame, frame), (frame, frame)))
    shrunk = []
    for part in torch.from_numpy(images.copy()).split(
        5000
    ):  # as floats they take four times the memory
        small = F.interpolate(part.float(), (side, side), mode="bilinear", antialias=True)
        shrunk.append(small.round().byte())
    return torch.cat(shrunk).numpy()


def load_file_bytes(name: str, cache: Path) -> bytes:
    """The plain bytes of a file, from the first place that has it.

    Raises:
        RetortError: the file was altered, or no place has it.
        OSError: no space is left to fetch it.
    """
    own = cache / "fashion-mnist"
    given = os.environ.get(ENV_VARIABLE)
    for folder in (
        [Path(given)] if given else [own, cache, cache / "FashionMNIST" / "raw", SYSTEM_FOLDER]
    ):
        if (data := read_from_folder(folder, name)) is not None:
            return data
    if given:
        raise RetortError(f"{ENV_VARIABLE}={given}: holds neither {name} nor {name}.gz")
    try:
        return fetch_file(name, own)
    except (OSError, RuntimeError) as error:
        if isinstance(error, OSError) and is_disk_full(error):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise RetortError(
            f"Fashion-MNIST: no download of {name} ({reason}); set {ENV_VARIABLE}=<folder of the "
            f"four "
            "IDX files>, or install Debian's dataset-fashion-mnist"
        ) from error


def read_from_folder(folder: Path, name: str) -> bytes | None:
    """The plain bytes of a file in a folder, None if it has none.

    Raises:
        RetortError: its content is not the official one.
    """
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.is_file()), None)
    return None if path is None else read_plain_bytes(path, name)


def read_plain_bytes(path: Path, name: str) -> bytes:
    """A file's bytes, unpacked if it is gzipped.

    Raises:
        RetortError: they are not the official ones.
    """
    try:
        with explain_denied_reading(path):
            data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise RetortError(f"{path}: not readable ({error}); replace it") from error
    if compute_sha256(data) != FILE_SHA256[name]:
        raise RetortError(f"{path}: not Fashion-MNIST's official file (wrong sha256); replace it")
    return data


def fetch_file(name: str, folder: Path) -> bytes:
    """A file downloaded into the cache, gzipped as it comes.

    Raises:
        OSError, RuntimeError: no answer, or a wrong sum.
    """
    from torchvision.datasets import FashionMNIST

    md5 = dict(FashionMNIST.resources)[f"{name}.gz"]
    log.info("Fashion-MNIST: fetching %s.gz", name)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        archive = download_file(f"{FashionMNIST.mirrors[0]}{name}.gz", Path(temporary), md5)
        data = read_plain_bytes(archive, name)
        write_atomically(folder / archive.name, archive.read_bytes())
    return data
