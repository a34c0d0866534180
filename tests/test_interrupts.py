"""Stop signals: deferred in a job, repeated by whoever sends them twice, passed on by a run."""

import logging
import os
import shlex
import signal
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import nn

from pipeline import interrupts
from pipeline.interrupts import (
    StopRequest,
    defer_stop_signals,
    exit_on_stop_signals,
    is_job_command,
    stop_jobs,
)
from pipeline.progress import WeightedProgress
from pipeline.stages.evaluate import watch_passes

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@pytest.fixture
def clock(monkeypatch):
    """The interrupts' clock, which stands until it is set; SIGHUP is not ignored, as by `nohup`."""
    now = [100.0]
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield now
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda s: s.name)
def test_a_signal_is_a_request_and_its_repetition_the_same(clock, number):
    before = {each: signal.getsignal(each) for each in SIGNALS}
    with exit_on_stop_signals(), defer_stop_signals() as request:
        assert not request
        signal.raise_signal(number)
        clock[0] += 4
        signal.raise_signal(signal.SIGTERM)  # as from a scheduler that signals all of a group
        assert request.signal_number == number
    assert {each: signal.getsignal(each) for each in SIGNALS} == before


def test_a_signal_five_seconds_later_stops_at_once(clock):
    with exit_on_stop_signals(), defer_stop_signals():
        signal.raise_signal(signal.SIGTERM)
        clock[0] += 5
        with pytest.raises(SystemExit) as end:
            signal.raise_signal(signal.SIGTERM)
    assert end.value.code == 143


def test_a_signal_gives_back_what_is_held_and_leaves_a_word(clock, caplog):
    caplog.set_level(logging.INFO, "retort")
    with exit_on_stop_signals():
        with pytest.raises(SystemExit) as end:
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # repeated: the cleaning up goes on
    assert end.value.code == 143
    assert caplog.messages == ["asked to stop by SIGTERM: what was saved is kept"]


def test_what_nohup_ignores_stays_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with exit_on_stop_signals(), defer_stop_signals() as request:
            signal.raise_signal(signal.SIGHUP)
            assert not request
    finally:
        signal.signal(signal.SIGHUP, before)


def test_jobs_below_this_process_are_asked_once():
    """One behind a shell, as conda and containers put one there."""
    code = "import signal; print(flush=True); signal.pause()"
    job = [sys.executable, "-c", code, "-m", "pipeline", "distill", "store/student/a"]
    behind = ["sh", "-c", f"{shlex.join(job)}; exit 7"]
    started = [subprocess.Popen(each, stdout=subprocess.PIPE) for each in (job, behind, job[:3])]
    try:
        for process in started:
            process.stdout.readline()
        asked: set[int] = set()
        stop_jobs(asked)
        assert started[0].wait() == -signal.SIGTERM
        assert started[1].wait() == 7
        assert len(asked) == 2
        assert psutil.Process(started[2].pid).is_running()
    finally:
        for process in started:
            process.kill()
            process.communicate()


def test_a_process_that_may_not_be_looked_into_hides_no_job(monkeypatch):
    """One that has ended and one of another user; the job below that one, and one beside them."""

    def process(pid: int, words: list[str] | psutil.Error, *children: SimpleNamespace):
        def command() -> list[str]:
            if isinstance(words, psutil.Error):
                raise words
            return words

        return SimpleNamespace(
            pid=pid,
            cmdline=command,
            terminate=lambda: stopped.append(pid),
            children=lambda: list(children),
        )

    stopped: list[int] = []
    job = ["python3", "-m", "pipeline", "distill", "store/student/a"]
    zombie, starter = psutil.ZombieProcess(1), psutil.AccessDenied(2)
    below = process(2, starter, process(3, job))
    run = process(0, [], process(1, zombie), below, process(4, job))
    monkeypatch.setattr(psutil, "Process", lambda: run)
    asked: set[int] = set()
    stop_jobs(asked)
    assert asked == {3, 4}
    assert sorted(stopped) == [3, 4]


def test_a_job_is_told_by_its_command_line():
    assert is_job_command(["python3", "-m", "pipeline", "distill", "store/student/a"])
    assert not is_job_command(["python3", "-m", "snakemake", "pipeline"])
    assert not is_job_command(["bash", "-c", "python3 -m pipeline distill"])


def test_a_job_that_outlives_its_run_is_asked_to_stop(tmp_path):
    """The parent starts it, and dies by SIGKILL: nobody is left to pass a signal on."""
    job = (
        "import os, signal\n"
        "from pipeline.interrupts import exit_on_stop_signals\n"
        "with exit_on_stop_signals():\n"
        "    print(os.getpid(), flush=True)\n"
        "    signal.pause()\n"
    )
    run = (
        "import os, subprocess, sys\n"
        "os.environ['RETORT_WORKFLOW'] = str(os.getpid())\n"
        "subprocess.run([sys.executable, '-c', sys.argv[1]])\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", run, job], stdout=subprocess.PIPE)
    child = psutil.Process(int(parent.stdout.readline()))
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    psutil.wait_procs([child], timeout=60)
    parent.stdout.close()
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_an_attack_is_counted_by_its_passes_and_stops_at_the_next():
    """3 images forwards; 3 with a gradient, which count twice; then the request comes."""
    model, wish = nn.Linear(2, 2), StopRequest()
    progress = WeightedProgress("chunk", 1, [("square", 100.0)])
    with watch_passes(model, progress, wish):
        model(torch.zeros(3, 2))
        model(torch.zeros(3, 2, requires_grad=True))
        assert progress.work_in_part == 9
        wish.record(signal.SIGTERM)
        with pytest.raises(SystemExit) as end:
            model(torch.zeros(3, 2))
    assert end.value.code == 143
    model(torch.zeros(3, 2))
