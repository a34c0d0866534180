"""A lease on a folder: one job works in it, on any node, and a dead holder is found out.

The lease is a file made by an atomic hard link, which also works on NFS, where fcntl locks do
not. Its modification time is the heartbeat.
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
)  # a heartbeat that looks old must also be seen to stand still
POLL_SECONDS = 1.0

log = logging.getLogger("retort")


@dataclass
class HeartbeatWatch:
    """A lease's heartbeat as one waiter sees it, by the waiter's own clock.

    Clocks of two machines differ, and a clock may be set. So a heartbeat's time alone condemns
    nobody, and one that lies in the future saves nobody.
    """

    last_heartbeat: float | None = None
    last_change_time: float = 0.0

    def measure_still_seconds(self, heartbeat: float) -> float:
        """Seconds since this waiter saw the heartbeat move."""
        if heartbeat != self.last_heartbeat:
            self.last_heartbeat, self.last_change_time = heartbeat, time.monotonic()
        return time.monotonic() - self.last_change_time


def _read_holder(path: Path) -> dict | None:
    """Who holds the lease, None if nobody does any more."""
    try:
        holder = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        holder = None
    known = isinstance(holder, dict) and _describe_this_process().keys() <= holder.keys()
    # cut short by a power failure, or edited: nobody we can ask, so its heartbeat decides
    return holder if known else {"host": "", "boot": ""}


def _is_local_holder(holder: dict) -> bool:
    """Whether the holder was a process of this machine since it started."""
    return holder["host"] == socket.gethostname() and holder["boot"] == _read_boot_id()


def _find_dead_holder(path: Path, watch: HeartbeatWatch) -> dict | None:
    """The holder if it is gone: its process on this host, or its heartbeat elsewhere."""
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
    """Who works under a lease, as far as one look tells; empty if nobody does.

    A lease from elsewhere counts as held unless its heartbeat is old.
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
    """This machine's boot id: after a reboot no process of before is alive."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _read_start_time(pid: int) -> str:
    """A process's start time in clock ticks, so that a reused pid is not taken for its holder.

    Empty for a process that is gone or killed and not yet collected by its parent.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _is_alive(pid: int, started: str) -> bool:
    """Whether the very process that took the lease still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _read_start_time(pid) == started


def _describe_this_process() -> dict:
    """This process, as a lease names it."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "boot": _read_boot_id(),
        "started": _read_start_time(pid),
    }


def _try_acquire_lease(path: Path) -> bool:
    """Try once to make the lease file; True if it is ours now."""
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
    """Remove a dead holder's lease; of several who try, one renames it and the rest go on.

    Between the look and the rename somebody may have broken it and taken it anew: then what was
    renamed is not the dead lease, and it goes back.
    """
    renamed_path = path.with_name(f".{path.name}.dead.{socket.gethostname()}.{os.getpid()}")
    try:
        os.rename(path, renamed_path)
    except FileNotFoundError:
        return
    if _read_holder(renamed_path) != dead_holder:
        with suppress(FileExistsError):  # a third job has taken the place: it goes on alone
            os.link(renamed_path, path)
    renamed_path.unlink()


def _send_heartbeats(path: Path, stop: threading.Event) -> None:
    """Touch the lease until told to stop."""
    while not stop.wait(HEARTBEAT_SECONDS):
        with suppress(OSError):  # for a moment another job may hold it in its hands
            os.utime(path)


def _acquire_lease(path: Path) -> None:
    """Take the lease, from a dead holder if need be; waits while a living one has it."""
    watch, has_logged = HeartbeatWatch(), False
    while not _try_acquire_lease(path):
        if dead_holder := _find_dead_holder(path, watch):
            _break_lease(path, dead_holder)
            log.info(
                "%s: goes on where %s process %s died; if that was for want of memory, "
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
    """Hold the folder's lease for the block; yields False if ``done`` appeared meanwhile.

    Waits while another job holds the lease. Who waits and then finds ``done`` has nothing to do.

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
