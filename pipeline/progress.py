"""Log lines now and then that say how far a job is and how long it will still take."""

import logging
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

LOG_INTERVAL_SECONDS = 15
SILENCE_SECONDS = 60  # a job that said nothing for this long says that it still works
POLL_SECONDS = 5
STILL = "still at work"
MAX_SHARE_OF_PART = 0.95  # what a part that runs longer than estimated counts as done

T = TypeVar("T")

log = logging.getLogger("retort")


@dataclass
class Progress:
    """Counts steps of equal cost and logs the time left, at most every 15 seconds.

    Attributes:
        unit: the name of a step in the log, such as "epoch".
        total: number of steps.
        done: steps done so far, those of earlier attempts included.
        initial: steps that earlier attempts did.
    """

    unit: str
    total: int
    done: int = 0
    initial: int = field(init=False)
    start_time: float = field(init=False)
    last_log_time: float = field(init=False)

    def __post_init__(self) -> None:
        self.initial = self.done
        self.start_time = self.last_log_time = time.monotonic()
        silence_watch.progress = self

    def add_steps(self, count: int = 1) -> None:
        """Counts steps that were just done."""
        self.done += count
        now = time.monotonic()
        if now - self.last_log_time >= LOG_INTERVAL_SECONDS and self.done < self.total:
            self.last_log_time = now
            log.info("%s", self.describe())
        if self.done >= self.total:
            silence_watch.forget(self)

    def describe(self) -> str:
        """Steps done and the time left; the time so far if no step is done."""
        seconds = time.monotonic() - self.start_time
        counted = f"{self.unit} {self.done}/{self.total}"
        if self.done == self.initial:
            return f"{counted}  {format_duration(seconds)} so far"
        seconds_left = (self.total - self.done) * seconds / (self.done - self.initial)
        return f"{counted}  {format_duration(seconds_left)} left"


def track_steps(unit: str, items: Iterable[T], total: int) -> Iterator[T]:
    """The items one after the other, each a step that is done when the next is asked for."""
    progress = Progress(unit, total)
    for item in items:
        yield item
        progress.add_steps()


@dataclass
class WeightedProgress:
    """Counts parts of unequal cost, and logs the time left at most every 15 seconds.

    Work of one kind takes equal time, and each kind has its own speed. The speed of a kind that has
    not begun is taken as the mean of those that have.

    Attributes:
        unit: the name of a part in the log, such as "chunk".
        total: number of parts, those of earlier attempts included.
        parts: kind and work of each part that is left, in order.
    """

    unit: str
    total: int
    parts: list[tuple[str, float]]
    finished: int = field(default=0, init=False)
    work_in_part: float = field(default=0.0, init=False)
    seconds_by_kind: dict[str, float] = field(default_factory=dict, init=False)
    work_by_kind: dict[str, float] = field(default_factory=dict, init=False)
    part_start_time: float = field(init=False)
    last_log_time: float = field(init=False)

    def __post_init__(self) -> None:
        self.part_start_time = self.last_log_time = time.monotonic()
        silence_watch.progress = self

    def add_work(self, amount: float) -> None:
        """Counts work that was just done on the current part."""
        self.work_in_part += amount
        now = time.monotonic()
        if now - self.last_log_time >= LOG_INTERVAL_SECONDS:
            self.last_log_time = now
            log.info("%s", self.describe())

    def finish_part(self) -> None:
        """Counts the current part as done, whatever work it took; the next one begins."""
        kind, work = self.parts[self.finished]
        now = time.monotonic()
        spent = self.seconds_by_kind.get(kind, 0.0) + now - self.part_start_time
        self.seconds_by_kind[kind] = spent
        self.work_by_kind[kind] = self.work_by_kind.get(kind, 0.0) + work
        self.finished, self.work_in_part, self.part_start_time = self.finished + 1, 0.0, now
        if self.finished == len(self.parts):
            silence_watch.forget(self)
        else:
            self.add_work(0.0)

    def describe(self) -> str:
        """The current part, how much of it is done, and the time left if it can be told."""
        if self.finished == len(self.parts):  # asked by the silence watch as the last part ends
            return f"{self.unit} {self.total}/{self.total}"
        kind, work = self.parts[self.finished]
        number = self.total - len(self.parts) + self.finished + 1
        share = min(self.work_in_part / work, MAX_SHARE_OF_PART)
        text = f"{kind}, {self.unit} {number}/{self.total}, {share:.0%} of it"
        seconds_left = self.estimate_seconds_left()
        return text if seconds_left is None else f"{text}  {format_duration(seconds_left)} left"

    def estimate_seconds_left(self) -> float | None:
        """Seconds until the last part is done; None before any work was counted."""
        kind, work = self.parts[self.finished]
        in_part = min(self.work_in_part, MAX_SHARE_OF_PART * work)
        seconds, done = dict(self.seconds_by_kind), dict(self.work_by_kind)
        elapsed = time.monotonic() - self.part_start_time
        seconds[kind] = seconds.get(kind, 0.0) + elapsed
        done[kind] = done.get(kind, 0.0) + in_part
        if not any(done.values()):
            return None
        mean = sum(seconds.values()) / sum(done.values())
        speed = {name: seconds[name] / work for name, work in done.items() if work}
        left = sum(work * speed.get(name, mean) for name, work in self.parts[self.finished :])
        return max(left - in_part * speed.get(kind, mean), 0.0)


@dataclass
class SilenceWatch:
    """What was last said and when, and the progress of what a job is doing."""

    progress: Progress | WeightedProgress | None = None
    last_message: str = ""
    last_message_time: float = 0.0

    def forget(self, progress: Progress | WeightedProgress) -> None:
        """Drops a progress that has come to its end."""
        if self.progress is progress:
            self.progress = None

    def note_record(self, record: logging.LogRecord) -> bool:
        """Remembers a record; as a logging filter, it lets every record pass."""
        self.last_message, self.last_message_time = record.getMessage(), time.monotonic()
        return True

    def break_silence(self) -> None:
        """Logs the progress, or that the job still works, if nothing was said for a minute."""
        silent = time.monotonic() - self.last_message_time
        if silent < SILENCE_SECONDS:
            return
        said, progress = self.last_message, self.progress  # which the job may drop meanwhile
        if progress is not None:
            log.info("%s", progress.describe())
        elif said:
            log.info("%s", said if said.startswith(STILL) else f"{STILL} after: {said}")


silence_watch = SilenceWatch()


@contextmanager
def report_silence(start_message: str = "") -> Iterator[None]:
    """Has the block say at least once a minute how far it is, whatever it is doing.

    Args:
        start_message: what it does first; where it is empty, a block that neither logs nor counts
            its progress says nothing.
    """
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            silence_watch.break_silence()

    silence_watch.progress, silence_watch.last_message = None, start_message
    silence_watch.last_message_time = time.monotonic()
    thread = threading.Thread(target=watch, daemon=True)
    log.addFilter(silence_watch.note_record)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        log.removeFilter(silence_watch.note_record)


def format_duration(seconds: float) -> str:
    """A duration in words: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
