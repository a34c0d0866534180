"""CIFAR-100 (Krizhevsky, 2009): 32x32 colour images of a hundred classes, in the official order.

On disk it is the official binary form, `train.bin` and `test.bin`, each checked against its sum.
What is missing is taken from the folder or archive that RETORT_CIFAR100 names, else from one found
in the cache, else from the official archive, by torchvision's downloader.
"""

import hashlib
import logging
import os
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline.data.source_files import download_file, write_atomically
from pipeline.errors import RetortError

REVISION = 1
COMPONENTS = ("pipeline.data.source_files",)

SIZES = {"train": 50000, "test": 10000}
SHAPE = (3, 32, 32)
CLASSES = tuple(Path(__file__).with_suffix(".txt").read_text().split())

IMAGE_BYTES = 3 * 32 * 32
FILE_SHA1 = {
    "train.bin": "e207cd2e05b73b1393c74c7f5e7bea451d63e08e",
    "test.bin": "8fb6623e830365ff53cf14adec797474f5478006",
}
ARCHIVE_URL = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz"
ARCHIVE_MD5 = "03b5dce01913d631647c71ecec9e9cb8"
ARCHIVE_FOLDER = "cifar-100-binary"
ENV_VARIABLE = "RETORT_CIFAR100"
FAILURES = (RetortError, OSError, RuntimeError, tarfile.TarError)

log = logging.getLogger("retort")


def load(split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images (N,3,32,32) uint8 and labels (N,) int64 of "train" or "test", in official order.

    Labels are the hundred fine ones.

    Raises:
        RetortError: a file was altered, the given copy is unusable, or no source answers.
    """
    folder, name = Path(cache) / "cifar100", f"{split}.bin"
    if not (folder / name).exists():
        fetch_files(folder, FILE_SHA1)
    return decode_images(verify_bytes((folder / name).read_bytes(), name, FILE_SHA1))


def decode_images(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,3,32,32) uint8 and labels (N,) int64: two label bytes, coarse and fine; pixels."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 2 + IMAGE_BYTES)
    return rows[:, 2:].reshape(-1, *SHAPE), rows[:, 1].astype(np.int64)


def verify_bytes(data: bytes, name: str, sums: Mapping[str, str]) -> bytes:
    """The bytes of a file, checked against its official sum.

    Raises:
        RetortError: the sums differ.
    """
    if hashlib.sha1(data, usedforsecurity=False).hexdigest() != sums[name]:
        raise RetortError(f"{name} is not CIFAR-100's official file (wrong sum); delete it")
    return data


def import_copy(copy: Path, folder: Path, sums: Mapping[str, str]) -> None:
    """Stores the files of a folder, of its subfolder `cifar-100-binary`, or of a tar archive.

    Raises:
        RetortError: a file is missing or altered.
        OSError, TarError: the copy cannot be read.
    """
    log.info("CIFAR-100: reading %s", copy)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as temporary:
        place = copy
        if not copy.is_dir():
            place = Path(temporary)
            with tarfile.open(copy) as tar:
                members = [m for m in tar if m.isfile() and Path(m.name).name in sums]
                tar.extractall(place, members, filter="data")
        for name in sums:
            found = next(
                (p for p in (place / name, place / ARCHIVE_FOLDER / name) if p.is_file()), None
            )
            if found is None:
                raise RetortError(
                    f"holds no {name}; the binary form, {ARCHIVE_FOLDER}, is expected"
                )
            write_atomically(folder / name, verify_bytes(found.read_bytes(), name, sums))


def find_local_copy(folder: Path) -> Path | None:
    """A copy in the cache, put there by a person or another tool; None without one."""
    inner, archive = folder.parent / ARCHIVE_FOLDER, folder.parent / ARCHIVE_URL.rsplit("/", 1)[1]
    return next((place for place in (inner, archive) if place.exists()), None)


def fetch_files(folder: Path, sums: Mapping[str, str]) -> None:
    """Completes both files from the named copy alone, or from the first source that has them.

    Raises:
        RetortError: the copy is unusable, or there is none and the download fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    given = os.environ.get(ENV_VARIABLE) or find_local_copy(folder)
    if given:
        try:
            return import_copy(Path(given), folder, sums)
        except FAILURES as error:
            raise RetortError(f"{ENV_VARIABLE}={given}: {' '.join(str(error).split())}") from error
    log.info("CIFAR-100: fetching %s (169 MB)", ARCHIVE_URL.rsplit("/", 1)[1])
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
            return import_copy(
                download_file(ARCHIVE_URL, Path(temporary), ARCHIVE_MD5), folder, sums
            )
    except FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        remedy = f"set {ENV_VARIABLE}=<folder or archive of the binary form>"
        raise RetortError(f"CIFAR-100: no download ({reason}); {remedy}") from error
