"""GPUs of this machine: each is one job's at a time, by a lock that also its holder's death lifts.

The locks are local to the machine, as GPUs are. On a cluster the scheduler hands GPUs out; there
nothing is locked, and what it has set is left.
"""

import fcntl
import logging
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

VISIBLE = "CUDA_VISIBLE_DEVICES"
HELD = "RETORT_GPUS_HELD"  # set for a job's own child processes
SCHEDULED = ("SLURM_JOB_ID", "KUBERNETES_SERVICE_HOST")
POLL_SECONDS = 1.0

log = logging.getLogger("retort")


def devices() -> list[str]:
    """Names of the GPUs that jobs may use here: those that CUDA_VISIBLE_DEVICES leaves, or all."""
    if VISIBLE in os.environ:
        return [name.strip() for name in os.environ[VISIBLE].split(",") if name.strip()]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"UUID: (GPU-[-\w]+)", listed.stdout)


def places() -> Path:
    """The folder of the locks, shared by all users of the machine."""
    folder = Path(os.environ.get("RETORT_LOCKS", "/tmp/retort-gpus"))
    with suppress(FileExistsError):
        folder.mkdir(parents=True)
        folder.chmod(0o1777)
    return folder


def opened(name: str) -> int:
    """A descriptor of a lock's file; whoever comes first makes it, anybody may lock it."""
    path = places() / re.sub(r"\W", "-", name)
    with suppress(FileExistsError):
        made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW)
        os.fchmod(made, 0o666)
        return made
    return os.open(path, os.O_RDWR | os.O_NOFOLLOW)


def locked(name: str) -> int | None:
    """A descriptor that holds a lock until it is closed; None if another process holds it."""
    lock = opened(name)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def gathered(names: list[str], count: int, locks: ExitStack) -> list[str]:
    """``count`` of the GPUs, locked as they come free.

    One job gathers at a time, in the order of coming: a job of several GPUs is not overtaken for
    ever, and two of them never hold what the other waits for.
    """
    mine: list[str] = []
    said = False
    with ExitStack() as turn:
        gate = opened("turn")
        turn.callback(os.close, gate)
        fcntl.flock(gate, fcntl.LOCK_EX)
        while True:
            for name in names:
                if name not in mine and len(mine) < count:
                    lock = locked(name)
                    if lock is not None:
                        locks.callback(os.close, lock)
                        mine.append(name)
            if len(mine) == count:
                return mine
            if not said:
                log.info("waiting for %d of %d GPUs", count - len(mine), len(names))
                said = True
            time.sleep(POLL_SECONDS)


@contextmanager
def held(count: int) -> Iterator[None]:
    """For the block, this process sees ``count`` GPUs that no other job here uses.

    Waits until there are so many. Does nothing for no GPU, under a scheduler, in a child of a
    holder, and where the machine has too few: that the device check names.
    """
    hands_off = any(name in os.environ for name in (HELD, *SCHEDULED))
    names = devices() if count and not hands_off else []
    if not names or len(names) < count:
        yield
        return
    before = os.environ.get(VISIBLE)
    with ExitStack() as locks:
        mine = ",".join(gathered(names, count, locks))
        os.environ |= {VISIBLE: mine, HELD: "1"}
        log.info("GPU %s", mine)
        try:
            yield
        finally:
            del os.environ[HELD], os.environ[VISIBLE]
            if before is not None:
                os.environ[VISIBLE] = before
