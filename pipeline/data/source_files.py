"""Data sets: one file each, and the file's name is its ``source:`` in the configuration.

A file states ``SIZES`` (rows of each split), ``SHAPE`` (C,H,W), ``CLASSES`` (names in label order),
``REVISION`` and ``load(split, cache)``, which fetches what the cache lacks and returns images
(N,C,H,W) uint8 and labels (N,) int64; row i is row i of the source. Importing the file is cheap.

A data set with options has a frozen dataclass ``Images`` instead: its fields are the options, and
it has ``sizes`` (None where they are known only after reading), ``shape``, ``classes`` and
``load``. Options marked ``metadata={"outside": True}`` say where files lie and are in no key. A set
too large for one array has ``index(split, cache)`` instead of ``load``, which returns a
`file_index.FileIndex`. A set that finds out about its files for the plan has ``find(cache,
counts)``, which returns a `folder_layout.FoundImages`, and may have ``verify_version(cache)``. One
whose test images have parts, such as corruptions, has ``parts``: name and rows of each, in order.

This module holds what several data sets need: checked files, atomic writes, a bounded download.
"""

import hashlib
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path

from pipeline.errors import RetortError

REVISION = 1

SOCKET_TIMEOUT_SECONDS = 15.0  # a connection silent for so long is closed

log = logging.getLogger("retort")


def compute_sha256(data: bytes) -> str:
    """The sha256 of some bytes, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def read_verified_bytes(path: Path, expected: str) -> bytes:
    """The bytes of a file.

    Raises:
        RetortError: the file's sha256 is not the expected one.
    """
    data = path.read_bytes()
    if compute_sha256(data) != expected:
        raise RetortError(f"{path}: not the official file (wrong sha256); delete it and run again")
    return data


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file under a temporary name, sync it to disk and rename it."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


class PercentLogger:
    """A text stream that logs a progress bar's percentage at every tenth, and nothing else."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.logged_percent = 0

    def write(self, text: str) -> int:
        """Log the percentage in ``text`` if it reaches a new tenth."""
        found = re.search(r"(\d+)%", text)
        tenth = int(found[1]) // 10 * 10 if found else 0
        if tenth > self.logged_percent:
            self.logged_percent = tenth
            log.info("%s: %d %%", self.name, tenth)
        return len(text)

    def flush(self) -> None:
        """Does nothing: nothing is buffered."""


@contextmanager
def set_socket_timeout(seconds: float) -> Iterator[None]:
    """Close silent connections after ``seconds`` where the library sets no limit itself."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def download_file(url: str, folder: Path, md5: str) -> Path:
    """Download a file into a folder with torchvision, with progress in the log.

    Raises:
        OSError: no answer, or silence for ``SOCKET_TIMEOUT_SECONDS``.
        RuntimeError: too many redirections or a wrong md5.
    """
    from torchvision.datasets.utils import download_url

    name = url.rsplit("/", 1)[1]
    with set_socket_timeout(SOCKET_TIMEOUT_SECONDS), redirect_stderr(PercentLogger(name)):
        download_url(url, folder, name, md5)
    return folder / name
