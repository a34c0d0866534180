"""Locks that give each GPU of this machine to one job at a time; they end with their process.

The locks are local to the machine, as GPUs are. On a cluster the scheduler assigns GPUs; there
nothing is locked, and its settings stay.
"""

import fcntl
import logging
import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from pipeline.resources import VISIBLE_VARIABLE, list_gpus

HELD_VARIABLE = "RETORT_GPUS_HELD"  # set for a job's own child processes
SCHEDULER_VARIABLES = ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST")
POLL_SECONDS = 1.0

log = logging.getLogger("retort")


def get_lock_folder() -> Path:
    """The folder of the locks, shared by all users of the machine."""
    folder = Path(os.environ.get("RETORT_LOCKS", "/tmp/retort-gpus"))
    with suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    return folder


def open_lock_file(name: str) -> int:
    """A descriptor of a lock's file, which is created if missing and which any user may lock."""
    path = get_lock_folder() / re.sub(r"\W", "-", name)
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
        os.fchmod(descriptor, 0o666)
        return descriptor
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW)


def try_lock(name: str) -> int | None:
    """A descriptor that holds a lock until it is closed; None if another process holds it."""
    lock = open_lock_file(name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def lock_gpus(names: list[str], count: int, locks: ExitStack) -> list[str]:
    """Names of ``count`` GPUs, locked as they become free.

    Only one job at a time collects GPUs. So single-GPU jobs cannot starve a job of several GPUs,
    and two jobs never wait for each other's GPUs.
    """
    locked_names: list[str] = []
    has_logged = False
    with ExitStack() as turn:
        turn_lock = open_lock_file("turn")
        turn.callback(os.close, turn_lock)
        fcntl.flock(turn_lock, fcntl.LOCK_EX)
        while True:
            for name in names:
                if name not in locked_names and len(locked_names) < count:
                    lock = try_lock(name)
                    if lock is not None:
                        locks.callback(os.close, lock)
                        locked_names.append(name)
            if len(locked_names) == count:
                return locked_names
            if not has_logged:
                log.info("waiting for %d of %d GPUs", count - len(locked_names), len(names))
                has_logged = True
            time.sleep(POLL_SECONDS)


@contextmanager
def hold_gpus(count: int) -> Iterator[None]:
    """Make ``count`` GPUs that no other job here uses visible to this process, within the block.

    Waits until so many are free. Does nothing if ``count`` is 0, under a scheduler, in a child of
    a process that holds GPUs, and where the machine has too few, which the device check reports.
    """
    is_managed_elsewhere = any(name in os.environ for name in (HELD_VARIABLE, *SCHEDULER_VARIABLES))
    names = list_gpus() if count and not is_managed_elsewhere else []
    if not names or len(names) < count:
        yield
        return
    previous_value = os.environ.get(VISIBLE_VARIABLE)
    with ExitStack() as locks:
        visible_gpus = ",".join(lock_gpus(names, count, locks))
        os.environ |= {VISIBLE_VARIABLE: visible_gpus, HELD_VARIABLE: "1"}
        log.info("GPU %s", visible_gpus)
        try:
            yield
        finally:
            del os.environ[HELD_VARIABLE], os.environ[VISIBLE_VARIABLE]
            if previous_value is not None:
                os.environ[VISIBLE_VARIABLE] = previous_value
