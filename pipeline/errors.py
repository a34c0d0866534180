"""The one error type a user meets: a line that names the key or file, and the remedy."""

import errno

FULL = ("ENOSPC", "EDQUOT", "EFBIG")  # why a file could not be written for lack of room


class RetortError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it."""


def no_room_left(error: OSError) -> bool:
    """Whether an operation failed because a disk, quota or file-size limit is exhausted."""
    return errno.errorcode.get(error.errno) in FULL
