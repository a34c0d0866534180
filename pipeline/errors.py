"""The error type that users see: one line with the key or file at fault, and the remedy."""

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = "retort"  # the program's name on the command line

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


def find_denied_place(path: Path) -> Path | None:
    """The first folder on the way to a file that this user may not enter, or the file itself.

    None if nothing denies reading it. Symbolic links are followed.
    """
    real = Path(os.path.realpath(path))
    for folder in reversed(real.parents):
        if not os.access(folder, os.X_OK, effective_ids=True):
            return folder if folder.exists() else None
    needed = os.R_OK | os.X_OK if real.is_dir() else os.R_OK
    is_denied = real.exists() and not os.access(real, needed, effective_ids=True)
    return real if is_denied else None


def describe_unreadable(path: Path) -> str:
    """One line on a file that this user may not read: what denies it, its owner, the remedy."""
    place = find_denied_place(path) or path
    about = place.stat()
    try:
        owner = pwd.getpwuid(about.st_uid).pw_name
    except KeyError:  # the system has no name for the number
        owner = f"user {about.st_uid}"
    mode = f"mode {stat.S_IMODE(about.st_mode):04o}"
    denial = "" if str(place) == str(path) else f" ({place} denies it)"
    return (
        f"{path}: you may not read it{denial}; it belongs to {owner}, {mode}: let {owner} run "
        f"'chmod a+rX {place}'"
    )


@contextmanager
def explain_denied_reading(path: Path) -> Iterator[None]:
    """Names the owner and the remedy where the block may not read a file.

    Raises:
        RetortError: in place of a PermissionError in the block.
    """
    try:
        yield
    except PermissionError as error:
        raise RetortError(describe_unreadable(path)) from error


def is_disk_full(error: OSError) -> bool:
    """Whether an operation failed because a disk, quota or file-size limit is exhausted."""
    return errno.errorcode.get(error.errno) in NO_SPACE_ERRORS


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or torch on a CPU or GPU, failed to allocate memory."""
    torch_messages = ("OutOfMemoryError", "can't allocate memory", "not enough memory")
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(word in text for word in torch_messages)
