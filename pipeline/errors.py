"""The one error type a user meets: a line that names the key or file, and the remedy."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

FULL = ("ENOSPC", "EDQUOT", "EFBIG")  # why a file could not be written for lack of room


class RetortError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it."""


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
