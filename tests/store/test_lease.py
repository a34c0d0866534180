"""Leases: one job works in a folder, the others wait, and dead holders lose theirs."""

import json
import os
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest

from pipeline.errors import RetortError
from pipeline.store import lease
from pipeline.store.lease import hold_lease

HOLDER = """
import sys
from pathlib import Path
from pipeline.store.lease import hold_lease
folder = Path(sys.argv[1])
with hold_lease(folder, folder / "done") as needed:
    print("held" if needed else "not needed", flush=True)
    if sys.stdin.readline() == "finish\\n":
        (folder / "done").touch()
"""


class Holder:
    """Another process that holds the folder's lease until ``finish`` or ``kill``."""

    def __init__(self, folder) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout.readline() == "held\n"

    def finish(self, word: str = "finish\n") -> None:
        """Ends the process's block and waits for the process."""
        self.process.communicate(word)
        assert self.process.returncode == 0

    def kill(self) -> None:
        """Kills the process with SIGKILL and reaps it."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def holder(tmp_path):
    other = Holder(tmp_path)
    yield other
    with other.process:
        other.process.kill()


@pytest.fixture
def waiting(monkeypatch):
    """The events of successive polls, in place of sleep; if empty, nobody may wait."""
    events = []

    def sleep(seconds: float) -> None:
        assert events, "waited although nothing was expected to be waited for"
        events.pop(0)()

    real = lease.time
    clock = SimpleNamespace(sleep=sleep, time=real.time, monotonic=real.monotonic)
    monkeypatch.setattr(lease, "time", clock)
    return events


@pytest.fixture
def clock(monkeypatch):
    """A clock that only waiting moves: ``waited`` seconds so far, and ``each``, run per wait."""
    state = SimpleNamespace(waited=0.0, each=lambda: None)

    def sleep(seconds: float) -> None:
        state.waited += seconds
        state.each()
        assert state.waited < 2 * lease.STALE_SECONDS, "waited forever"

    now = lease.time.time()
    fake = SimpleNamespace(
        sleep=sleep, time=lambda: now + state.waited, monotonic=lambda: state.waited
    )
    monkeypatch.setattr(lease, "time", fake)
    monkeypatch.setattr(lease, "POLL_SECONDS", 5.0)
    return state


def lock(folder):
    return folder / "lease.lock"


def write_lock(folder, age: float, **changed: object) -> None:
    """Writes this process's lease, ``age`` seconds old, with some fields changed."""
    me = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "boot": lease._read_boot_id(),
        "started": lease._read_start_time(os.getpid()),
    }
    lock(folder).write_text(json.dumps(me | changed))
    beat = lease.time.time() - age
    os.utime(lock(folder), (beat, beat))


def test_a_lease_is_held_and_given_back(tmp_path, waiting):
    for _ in range(2):
        with hold_lease(tmp_path, tmp_path / "done") as needed:
            assert needed
            assert json.loads(lock(tmp_path).read_text())["pid"] == os.getpid()
        assert list(tmp_path.iterdir()) == []


def test_a_lease_is_given_back_after_an_error(tmp_path, waiting):
    with pytest.raises(KeyError), hold_lease(tmp_path, tmp_path / "done"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_needed_where_all_is_done(tmp_path, waiting):
    (tmp_path / "done").touch()
    with hold_lease(tmp_path, tmp_path / "done") as needed:
        assert not needed


def test_who_waits_sees_that_it_is_done(tmp_path, holder, waiting):
    waiting += [lambda: None, holder.finish]
    with hold_lease(tmp_path, tmp_path / "done") as needed:
        assert not needed
    assert waiting == []


def test_who_waits_takes_over_unfinished_work(tmp_path, holder, waiting):
    waiting += [lambda: holder.finish("fail\n")]
    with hold_lease(tmp_path, tmp_path / "done") as needed:
        assert needed


def test_a_killed_holders_lease_is_taken_at_once(tmp_path, holder, waiting):
    holder.kill()
    assert lock(tmp_path).exists()
    with hold_lease(tmp_path, tmp_path / "done") as needed:
        assert needed
        assert json.loads(lock(tmp_path).read_text())["pid"] == os.getpid()


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
def test_a_killed_holder_that_nobody_collects_is_dead(tmp_path, holder, waiting):
    os.kill(holder.process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, holder.process.pid, os.WEXITED | os.WNOWAIT)
    with hold_lease(tmp_path, tmp_path / "done") as needed:
        assert needed


ELSEWHERE, OLD = {"host": "elsewhere"}, lease.STALE_SECONDS + 5


@pytest.mark.parametrize(
    ("changed", "age", "wait"),
    [
        ({"started": "1"}, 0, 0),
        ({"boot": "before", "started": "1"}, OLD, lease.MIN_STILL_SECONDS),
        (ELSEWHERE, OLD, lease.MIN_STILL_SECONDS),
        (ELSEWHERE, 5, lease.STALE_SECONDS),
        (ELSEWHERE, -86400, lease.STALE_SECONDS),  # its clock or this one was a day off
    ],
)
def test_dead_leases_are_broken(changed, age, wait, tmp_path, clock, caplog):
    write_lock(tmp_path, age, **changed)
    with caplog.at_level("INFO"), hold_lease(tmp_path, tmp_path / "done") as needed:
        assert needed
    assert clock.waited == pytest.approx(wait, abs=6)
    assert "died; if it ran out of memory" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("age", [OLD, 0, -86400])
def test_a_beating_lease_is_waited_for_whatever_the_clock_says(age, tmp_path, clock):
    write_lock(tmp_path, age, **ELSEWHERE)

    def beat() -> None:
        if clock.waited % lease.HEARTBEAT_SECONDS == 0:
            write_lock(tmp_path, age - clock.waited, **ELSEWHERE)
        if clock.waited >= lease.STALE_SECONDS + 100:
            lock(tmp_path).unlink(missing_ok=True)

    clock.each = beat
    with hold_lease(tmp_path, tmp_path / "done") as needed:
        assert needed
    assert clock.waited >= lease.STALE_SECONDS + 100


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}", '{"host": "x"}', "\x00"])
def test_a_lease_that_says_nothing_goes_by_its_heartbeat(text, tmp_path, clock):
    lock(tmp_path).write_text(text)
    with hold_lease(tmp_path, tmp_path / "done") as needed:
        assert needed
    assert clock.waited >= lease.MIN_STILL_SECONDS


def test_who_works_is_told_at_one_look(tmp_path, holder):
    assert lease.describe_holder(lock(tmp_path)) == f"{socket.gethostname()} {holder.process.pid}"
    holder.kill()
    assert lease.describe_holder(lock(tmp_path)) == ""
    write_lock(tmp_path, 5, **ELSEWHERE)
    assert lease.describe_holder(lock(tmp_path)) == f"elsewhere {os.getpid()}"
    write_lock(tmp_path, OLD, **ELSEWHERE)
    assert lease.describe_holder(lock(tmp_path)) == ""
    lock(tmp_path).unlink()
    assert lease.describe_holder(lock(tmp_path)) == ""


@pytest.mark.parametrize(
    ("changed", "age"), [({}, 1e6), ({"host": "elsewhere"}, lease.STALE_SECONDS / 2)]
)
def test_living_leases_are_waited_for(changed, age, tmp_path, waiting):
    write_lock(tmp_path, age, **changed)
    waiting += [lambda: None, lambda: lock(tmp_path).unlink()]
    with hold_lease(tmp_path, tmp_path / "done") as needed:
        assert needed
    assert waiting == []


def test_a_lease_taken_anew_meanwhile_is_put_back(tmp_path):
    write_lock(tmp_path, 0)
    living = lock(tmp_path).read_text()
    lease._break_lease(lock(tmp_path), {"host": "elsewhere", "pid": 1})
    assert lock(tmp_path).read_text() == living
    assert list(tmp_path.iterdir()) == [lock(tmp_path)]
    lease._break_lease(lock(tmp_path), json.loads(living))
    assert list(tmp_path.iterdir()) == []
    lease._break_lease(lock(tmp_path), json.loads(living))


def test_leases_of_other_names_do_not_meet(tmp_path, holder, waiting):
    with hold_lease(tmp_path, tmp_path / "other", "shard-00000") as needed:
        assert needed
    holder.finish()


def test_a_folder_that_is_not_there_is_named(tmp_path, waiting):
    with (
        pytest.raises(RetortError, match="nowhere: no lease can be taken"),
        hold_lease(tmp_path / "nowhere", tmp_path / "done"),
    ):
        pass
