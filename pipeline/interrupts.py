"""Stop signals: in a job a request that it follows at its next safe point; in a run, passed on."""

import ctypes
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psutil

# Ctrl-C, `timeout` and systemd signal a job directly and once more through the main process.
SAME_REQUEST_SECONDS = 5.0
RESEND_SECONDS = 0.5
WORKFLOW_VARIABLE = "RETORT_WORKFLOW"  # process id of the run that starts the jobs
PR_SET_PDEATHSIG = 1  # option of Linux's prctl: a signal when the parent dies

log = logging.getLogger("retort")


@dataclass
class StopRequest:
    """Whether, and by which signal, the process was asked to stop."""

    signal_number: int = 0
    time: float = 0.0

    def __bool__(self) -> bool:
        return self.signal_number != 0

    def record(self, number: int) -> None:
        """Notes the signal and the time."""
        self.signal_number, self.time = number, time.monotonic()

    def is_repeated(self) -> bool:
        """Whether a signal that comes just now belongs to this request."""
        return bool(self) and time.monotonic() - self.time < SAME_REQUEST_SECONDS


process_request = StopRequest()  # the latest that this process got, in whatever block


def list_stop_signals() -> list[signal.Signals]:
    """SIGTERM, SIGINT, and SIGHUP unless the process ignores it, as `nohup` has it do."""
    ignores_hangup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    return [signal.SIGTERM, signal.SIGINT, *([] if ignores_hangup else [signal.SIGHUP])]


@contextmanager
def defer_stop_signals() -> Iterator[StopRequest]:
    """Records the first stop signal of the block; one five seconds later takes effect as usual."""
    stop_request = StopRequest()

    def record_signal(number: int, frame) -> None:
        if not stop_request:
            stop_request.record(number)
            process_request.record(number)
        elif not stop_request.is_repeated():
            restore_handlers()
            signal.raise_signal(number)

    def restore_handlers() -> None:
        for each, handler in previous_handlers.items():
            signal.signal(each, handler)

    previous_handlers = {each: signal.signal(each, record_signal) for each in list_stop_signals()}
    try:
        yield stop_request
    finally:
        restore_handlers()


@contextmanager
def exit_on_stop_signals() -> Iterator[None]:
    """Has a stop signal raise SystemExit in the block, so that what it holds is given back.

    A child of a run's main process is also asked to stop when that process dies.
    """
    stop_request = StopRequest()
    process_request.signal_number = 0

    def leave(number: int, frame) -> None:
        if not process_request.is_repeated():  # else the job is on its way out already
            stop_request.record(number)
            process_request.record(number)
            raise SystemExit(128 + number)

    previous_handlers = {each: signal.signal(each, leave) for each in list_stop_signals()}
    follow_parent()
    try:
        yield
    finally:
        for each, handler in previous_handlers.items():
            signal.signal(each, handler)
        if stop_request:
            name = signal.Signals(stop_request.signal_number).name
            log.info("asked to stop by %s: what was saved is kept", name)


def follow_parent() -> None:
    """Asks Linux to send SIGTERM when the run's main process dies, if that is the parent."""
    if sys.platform != "linux" or os.environ.get(WORKFLOW_VARIABLE) != str(os.getppid()):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.environ[WORKFLOW_VARIABLE] != str(os.getppid()):  # it died in between
        signal.raise_signal(signal.SIGTERM)


def pass_on_stop_signals() -> None:
    """In a run's main process: a stop signal asks every job to stop, then interrupts the run.

    Snakemake waits for the jobs, which save what they have. Further signals are passed on too.
    """
    stop_request = StopRequest()

    def stop_run(number: int, frame) -> None:
        if stop_request:
            if not stop_request.is_repeated():
                stop_jobs(set())
            return
        stop_request.record(number)
        threading.Thread(target=stop_jobs_forever, daemon=True).start()
        raise KeyboardInterrupt

    for each in list_stop_signals():
        signal.signal(each, stop_run)


def stop_jobs_forever() -> None:
    """Asks each job once to stop, those too that start later, until this process ends."""
    asked: set[int] = set()
    while True:
        stop_jobs(asked)
        time.sleep(RESEND_SECONDS)


def stop_jobs(asked: set[int]) -> None:
    """Sends SIGTERM to the jobs below this process that are not in ``asked``; adds them to it."""
    waiting = [psutil.Process()]
    while waiting:
        with suppress(psutil.Error):  # it has ended in between
            for child in waiting.pop().children():
                if not is_job_command(read_command(child)):
                    waiting.append(child)
                elif child.pid not in asked:
                    asked.add(child.pid)
                    child.terminate()


def read_command(process: psutil.Process) -> list[str]:
    """A process's command line; empty if it has ended or belongs to another user."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def is_job_command(words: list[str]) -> bool:
    """Whether a command line is `python -m pipeline …`."""
    return any(pair == ("-m", "pipeline") for pair in zip(words, words[1:], strict=False))
