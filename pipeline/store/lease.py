"""A lease on a folder: only one job, on any node, works in it, and a dead holder loses it.

The lease is a file created by an atomic hard link. Unlike fcntl locks, that works on NFS too. The
file's modification time is the heartbeat.
"""

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RetortError

STALE_SECONDS = 600
HEARTBEAT_SECONDS = 20
MIN_STILL_SECONDS = (
    3 * HEARTBEAT_SECONDS
)  # an old heartbeat must also be observed not to move for this long
POLL_SECONDS = 1.0

log = logging.getLogger("retort")


@dataclass
class HeartbeatWatch:
    """A lease's heartbeat as a waiting process observes it, by its own clock.

    Clocks of two machines differ, and a clock may be reset. So an old heartbeat does not prove a
    holder dead, and a heartbeat in the future does not prove it alive.
    """

    last_heartbeat: float | None = None
    last_change_time: float = 0.0

    def measure_still_seconds(self, heartbeat: float) -> float:
        """Seconds since this process saw the heartbeat move."""
        if heartbeat != self.last_heartbeat:
            self.last_heartbeat, self.last_change_time = heartbeat, time.monotonic()
        return time.monotonic() - self.last_change_time


def _read_holder(path: Path) -> dict | None:
    """The holder of the lease; None if the lease is gone."""
    try:
        holder = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (ValueError, PermissionError):
        holder = None
    known = isinstance(holder, dict) and _describe_this_process().keys() <= holder.keys()
    # truncated by a power failure, edited, or of a user who lets nobody read it: the holder is
    # unknown, so the heartbeat decides
    return holder if known else {"host": "", "boot": ""}


def _is_local_holder(holder: dict) -> bool:
    """Whether the holder is a process of this machine since its last boot."""
    return holder["host"] == socket.gethostname() and holder["boot"] == _read_boot_id()


def _find_dead_holder(path: Path, watch: HeartbeatWatch) -> dict | None:
    """The holder if it is dead, by its process on this host or by its heartbeat elsewhere."""
    holder = _read_holder(path)
    if holder is None:
        return None
    if _is_local_holder(holder):
        return None if _is_alive(holder["pid"], holder["started"]) else holder
    try:
        heartbeat = path.stat().st_mtime
    except FileNotFoundError:
        return None
    still_seconds = watch.measure_still_seconds(heartbeat)
    looks_old = time.time() - heartbeat > STALE_SECONDS and still_seconds >= MIN_STILL_SECONDS
    return holder if looks_old or still_seconds >= STALE_SECONDS else None


def describe_holder(path: Path) -> str:
    """The host and process that hold a lease, judged at once; empty if nobody does.

    A lease from another machine counts as held unless its heartbeat is old.
    """
    holder = _read_holder(path)
    if holder is None:
        return ""
    if _is_local_holder(holder):
        alive = _is_alive(holder["pid"], holder["started"])
    else:
        alive = time.time() - path.stat().st_mtime <= STALE_SECONDS
    return f"{holder['host'] or 'somebody'} {holder.get('pid', '')}".strip() if alive else ""


def _read_boot_id() -> str:
    """This machine's boot id, which changes at a reboot; empty if the system has none."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _read_start_time(pid: int) -> str:
    """A process's start time in clock ticks, which tells it from a later one with the same pid.

    It is empty for a process that is gone, or that is dead and not yet reaped by its parent.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _is_alive(pid: int, started: str) -> bool:
    """Whether the process that took the lease still runs, not another one with its pid."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _read_start_time(pid) == started


def _describe_this_process() -> dict:
    """The content of a lease that this process holds."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": _read_boot_id(),
        "started": _read_start_time(pid),
    }


def _try_acquire_lease(path: Path) -> bool:
    """Tries once to create the lease file; True if this process now holds the lease."""
    own_path = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with own_path.open("w") as file:
        file.write(json.dumps(_describe_this_process()))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(own_path, path)
        return True
    except FileExistsError:
        return False
    finally:
        own_path.unlink()


def _break_lease(path: Path, dead_holder: dict) -> None:
    """Removes a dead holder's lease; if several processes try, only one can rename it.

    Before the rename, another process may have broken the lease and taken a new one. Then the
    renamed file is not the dead holder's lease, and it is put back.
    """
    renamed_path = path.with_name(f".{path.name}.dead.{socket.gethostname()}.{os.getpid()}")
    try:
        os.rename(path, renamed_path)
    except FileNotFoundError:
        return
    if _read_holder(renamed_path) != dead_holder:
        with suppress(FileExistsError):  # a third job has taken the lease: it keeps it
            os.link(renamed_path, path)
    renamed_path.unlink()


def _send_heartbeats(path: Path, stop: threading.Event) -> None:
    """Touches the lease until ``stop`` is set."""
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # another job may have renamed it for a moment
            os.utime(path)


def _acquire_lease(path: Path) -> None:
    """Takes the lease, from a dead holder if necessary; waits while a living one holds it."""
    watch, has_logged = HeartbeatWatch(), False
    while not _try_acquire_lease(path):
        if dead_holder := _find_dead_holder(path, watch):
            _break_lease(path, dead_holder)
            log.info(
                "%s: continues where %s process %s died; if it ran out of memory, "
                "give its rule more (mem_mb) or lower the recipe's batch",
                *(path.parent, dead_holder["host"] or "an unknown", dead_holder.get("pid", "")),
            )
            continue
        if not has_logged:
            log.info("%s: another job works here; waiting for it", path.parent)
            has_logged = True
        time.sleep(POLL_SECONDS)


@contextmanager
def hold_lease(folder: Path, done_path: Path, name: str = "lease") -> Iterator[bool]:
    """Holds the folder's lease for the block; yields False if ``done_path`` exists by then.

    Waits while another job holds the lease. If that job has written ``done_path``, nothing is left
    to do.

    Raises:
        RetortError: the folder cannot be written to.
    """
    path = folder / f"{name}.lock"
    try:
        _acquire_lease(path)
    except OSError as error:
        remedy = "make the store writable or free some space"
        raise RetortError(
            f"{folder}: no lease can be taken ({error.strerror}); {remedy}"
        ) from error
    stop = threading.Event()
    heartbeat_thread = threading.Thread(target=_send_heartbeats, args=(path, stop), daemon=True)
    heartbeat_thread.start()
    try:
        yield not done_path.exists()
    finally:
        stop.set()
        heartbeat_thread.join()
        if _read_holder(path) == _describe_this_process():
            path.unlink(missing_ok=True)
