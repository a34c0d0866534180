"""One line now and then of how far a job is, and how long it still takes."""

import logging
import time
from dataclasses import dataclass, field

LOG_INTERVAL_SECONDS = 15

log = logging.getLogger("retort")


@dataclass
class Progress:
    """Counts steps of equal cost and says how many are left, at most every 15 seconds.

    Attributes:
        what: one step, as a reader calls it.
        total: how many there are.
        done: how many were done before this attempt.
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
        """Count steps that are done now."""
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
    """A time as one reads it: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
