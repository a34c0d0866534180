"""The one error type a user meets: a line that names the key or file, and the remedy."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

FULL = ("ENOSPC", "EDQUOT", "EFBIG")  # why a file could not be written for lack of room


class RetortError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it."""

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


@contextmanager
def under(place: str) -> Iterator[None]:
    """Put a place before the message of every RetortError of a block."""
    try:
        yield
    except RetortError as error:
        raise RetortError(f"{place}{error}") from error


def no_room_left(error: OSError) -> bool:
    """Whether an operation failed because a disk, quota or file-size limit is exhausted."""
    return errno.errorcode.get(error.errno) in FULL


def no_memory_left(error: Exception) -> bool:
    """Whether Python, or torch on a CPU or a GPU, could not allocate."""
    torchs = ("OutOfMemoryError", "can't allocate memory", "not enough memory")
    said = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(word in said for word in torchs)
