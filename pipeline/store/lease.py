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
BEAT_SECONDS = 20
SURE_SECONDS = 3 * BEAT_SECONDS  # a heartbeat that looks old must also be seen to stand still
POLL_SECONDS = 1.0

log = logging.getLogger("retort")


@dataclass
class Watch:
    """A lease's heartbeat as one waiter sees it, by the waiter's own clock.

    Clocks of two machines differ, and a clock may be set. So a heartbeat's time alone condemns
    nobody, and one that lies in the future saves nobody.
    """

    beat: float | None = None
    since: float = 0.0

    def still(self, beat: float) -> float:
        """Seconds since this waiter saw the heartbeat move."""
        if beat != self.beat:
            self.beat, self.since = beat, time.monotonic()
        return time.monotonic() - self.since


def _holder(path: Path) -> dict | None:
    """Who holds the lease, None if nobody does any more."""
    try:
        holder = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except ValueError:
        holder = None
    known = isinstance(holder, dict) and _me().keys() <= holder.keys()
    # cut short by a power failure, or edited: nobody we can ask, so its heartbeat decides
    return holder if known else {"host": "", "boot": ""}


def _here(holder: dict) -> bool:
    """Whether the holder was a process of this machine since it started."""
    return holder["host"] == socket.gethostname() and holder["boot"] == _boot()


def _dead_holder(path: Path, watch: Watch) -> dict | None:
    """The holder if it is gone: its process on this host, or its heartbeat elsewhere."""
    holder = _holder(path)
    if holder is None:
        return None
    if _here(holder):
        return None if _alive(holder["pid"], holder["started"]) else holder
    try:
        beat = path.stat().st_mtime
    except FileNotFoundError:
        return None
    still = watch.still(beat)
    looks_old = time.time() - beat > STALE_SECONDS and still >= SURE_SECONDS
    return holder if looks_old or still >= STALE_SECONDS else None


def worker(path: Path) -> str:
    """Who works under a lease, as far as one look tells; empty if nobody does.

    A lease from elsewhere counts as held unless its heartbeat is old.
    """
    holder = _holder(path)
    if holder is None:
        return ""
    if _here(holder):
        alive = _alive(holder["pid"], holder["started"])
    else:
        alive = time.time() - path.stat().st_mtime <= STALE_SECONDS
    return f"{holder['host'] or 'somebody'} {holder.get('pid', '')}".strip() if alive else ""


def _boot() -> str:
    """This machine's boot id: after a reboot no process of before is alive."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text().strip() if path.exists() else ""


def _started(pid: int) -> str:
    """A process's start time in clock ticks, so that a reused pid is not taken for its holder.

    Empty for a process that is gone or killed and not yet collected by its parent.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _alive(pid: int, started: str) -> bool:
    """Whether the very process that took the lease still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return _started(pid) == started


def _me() -> dict:
    """This process, as a lease names it."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "boot": _boot(), "started": _started(pid)}


def _take(path: Path) -> bool:
    """Try once to make the lease file; True if it is ours now."""
    own = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}")
    with own.open("w") as file:
        file.write(json.dumps(_me()))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(own, path)
        return True
    except FileExistsError:
        return False
    finally:
        own.unlink()


def _break(path: Path, dead: dict) -> None:
    """Remove a dead holder's lease; of several who try, one renames it and the rest go on.

    Between the look and the rename somebody may have broken it and taken it anew: then what was
    renamed is not the dead lease, and it goes back.
    """
    grave = path.with_name(f".{path.name}.dead.{socket.gethostname()}.{os.getpid()}")
    try:
        os.rename(path, grave)
    except FileNotFoundError:
        return
    if _holder(grave) != dead:
        with suppress(FileExistsError):  # a third job has taken the place: it goes on alone
            os.link(grave, path)
    grave.unlink()


def _beat(path: Path, stop: threading.Event) -> None:
    """Touch the lease until told to stop."""
    while not stop.wait(BEAT_SECONDS):
        with suppress(OSError):  # for a moment another job may hold it in its hands
            os.utime(path)


def _wait_for(path: Path) -> None:
    """Take the lease, from a dead holder if need be; waits while a living one has it."""
    watch, said = Watch(), False
    while not _take(path):
        if dead := _dead_holder(path, watch):
            _break(path, dead)
            log.info(
                "%s: goes on where %s process %s died; if that was for want of memory, "
                "give its rule more (mem_mb) or lower the recipe's batch",
                *(path.parent, dead["host"] or "an unknown", dead.get("pid", "")),
            )
            continue
        if not said:
            log.info("%s: another job works here; waiting for it", path.parent)
            said = True
        time.sleep(POLL_SECONDS)


@contextmanager
def leased(folder: Path, done: Path, name: str = "lease") -> Iterator[bool]:
    """Hold the folder's lease for the block; yields False if ``done`` appeared meanwhile.

    Waits while another job holds the lease. Who waits and then finds ``done`` has nothing to do.

    Raises:
        RetortError: the folder cannot be written to.
    """
    path = folder / f"{name}.lock"
    try:
        _wait_for(path)
    except OSError as error:
        remedy = "make the store writable or free some space"
        raise RetortError(
            f"{folder}: no lease can be taken ({error.strerror}); {remedy}"
        ) from error
    stop = threading.Event()
    beat = threading.Thread(target=_beat, args=(path, stop), daemon=True)
    beat.start()
    try:
        yield not done.exists()
    finally:
        stop.set()
        beat.join()
        if _holder(path) == _me():
            path.unlink(missing_ok=True)
