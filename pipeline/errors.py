"""The error type that users see: one line with the key or file at fault, and the remedy."""

import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COMMAND = "retort"  # the console script, as messages and help name it
NO_SPACE_ERRORS = ("ENOSPC", "EDQUOT", "EFBIG")  # there is no room for the file
DENIED_ERRORS = ("EACCES", "EPERM", "EROFS", "ENOTDIR")
ROOM_REMEDY = "free some space and run again"
MEMORY_REMEDY = "give its rule more (mem_mb) or lower its batch and run again"
GPU_MEMORY_REMEDY = (
    "raise recipe.accumulate, which makes the same update of smaller parts (for a bank lower its "
    "block, for an attack its chunk), and run again; an objective that needs the whole batch "
    "refuses accumulate: lower its batch instead"
)
GPU_MEMORY_ERRORS = ("OutOfMemoryError", "CUDA error: out of memory", "STATUS_ALLOC_FAILED")
UNDETERMINED_WORDS = "does not have a deterministic implementation"


class RetortError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do about it.

    Attributes:
        logs_cause: whether a job's log also wants the traceback of the cause, the user's own code.
    """

    def __init__(self, message: str, *, logs_cause: bool = False):
        super().__init__("".join(c if c.isprintable() else ascii(c)[1:-1] for c in message))
        self.logs_cause = logs_cause


@contextmanager
def prefix_errors(prefix: str) -> Iterator[None]:
    """Puts a prefix before the message of every RetortError that the block raises."""
    try:
        yield
    except RetortError as error:
        raise RetortError(f"{prefix}{error}") from error


def explain_error(error: Exception, place: str) -> str:
    """One line on what went wrong and what to do; empty for an error that nobody foresaw.

    Args:
        error: what ended a verb or a job.
        place: the folder that it worked on.
    """
    name = type(error).__name__
    if isinstance(error, RetortError):
        return str(error)
    for cause in list_causes(error):  # torch answers a full disk by an error of its own
        if isinstance(cause, OSError) and is_disk_full(cause):
            return f"{place}: {cause.strerror}; {ROOM_REMEDY}"
    if isinstance(error, OSError) and errno.errorcode.get(error.errno) in DENIED_ERRORS:
        return describe_denial(error)
    if isinstance(error, RuntimeError) and is_out_of_gpu_memory(error):
        return f"{place}: the GPU is out of memory; {GPU_MEMORY_REMEDY}"
    if isinstance(error, RuntimeError) and UNDETERMINED_WORDS in str(error):
        what = str(error).partition(UNDETERMINED_WORDS)[0]
        return f"{place}: recipe.deterministic: {what}{UNDETERMINED_WORDS}; drop it"
    if isinstance(error, MemoryError | RuntimeError) and is_out_of_memory(error):
        return f"{place}: out of memory; {MEMORY_REMEDY}"
    if name == "SafetensorError" and "I/O error" in str(error):  # the package loads torch
        return f"{place}: {error}; {ROOM_REMEDY}"
    return ""


def describe_denial(error: OSError) -> str:
    """The line on a file that may not be read or written, with the remedy for the one or other."""
    path = Path(error.filename) if error.filename else None
    if path and isinstance(error, PermissionError) and find_denied_place(path):
        return describe_unreadable(path)
    return f"{error.filename}: {error.strerror}; make it writable"


def list_causes(error: BaseException) -> list[BaseException]:
    """An error and those that led to it, the last first."""
    found: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in found:
        found.append(cause)
        cause = cause.__cause__ or cause.__context__
    return found


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


def is_out_of_gpu_memory(error: Exception) -> bool:
    """Whether torch, cuBLAS or cuDNN failed to allocate memory of a GPU."""
    text = f"{type(error).__name__}: {error}"
    return any(word in text for word in GPU_MEMORY_ERRORS)


def is_out_of_memory(error: Exception) -> bool:
    """Whether Python, or torch on a CPU, failed to allocate memory."""
    torch_messages = ("can't allocate memory", "not enough memory")
    text = f"{type(error).__name__}: {error}"
    return isinstance(error, MemoryError) or any(word in text for word in torch_messages)
