"""The error type that users see: one line with the key or file at fault, and the remedy."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

COMMAND = "retort"  # the console script, as messages and help name it
NO_SPACE_ERRORS = ("ENOSPC", "EDQUOT", "EFBIG")  # there is no room for the file


class RetortError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it."""

    def __init__(self, message: str):
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))


@contextmanager
def prefix_errors(prefix: str) -> Iterator[None]:
    """Puts a prefix before the message of every RetortError that the block raises."""
    try:
        yield
    except RetortError as error:
        raise RetortError(f"{prefix}{error}") from error


def is_disk_full(error: OSError) -> bool:
    """Whether an operation failed because a disk, quota or file-size limit is exhausted."""
    return errno.errorcode.get(error.errno) in NO_SPACE_ERRORS


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or torch on a CPU or GPU, failed to allocate memory."""
    torch_messages = ("OutOfMemoryError", "can't allocate memory", "not enough memory")
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(word in text for word in torch_messages)
