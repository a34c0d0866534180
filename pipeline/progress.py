"""A log line now and then that says how far a job is and how long it will still take."""

import logging
import time
from dataclasses import dataclass, field

LOG_INTERVAL_SECONDS = 15

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

    def add_steps(self, count: int = 1) -> None:
        """Counts steps that were just done."""
        self.done += count
        now = time.monotonic()
        if now - self.last_log_time >= LOG_INTERVAL_SECONDS and self.done < self.total:
            self.last_log_time = now
            seconds_left = (
                (self.total - self.done) * (now - self.start_time) / (self.done - self.initial)
            )
            log.info(
                "%s %d/%d  %s left", self.unit, self.done, self.total, format_duration(seconds_left)
            )


def format_duration(seconds: float) -> str:
    """A duration in words: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
