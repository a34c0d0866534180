"""One line now and then of how far a job is, and how long it still takes."""

import logging
import time
from dataclasses import dataclass, field

EVERY_SECONDS = 15

log = logging.getLogger("retort")


@dataclass
class Progress:
    """Counts steps of equal cost and says how many are left, at most every 15 seconds.

    Attributes:
        what: one step, as a reader calls it.
        total: how many there are.
        done: how many were done before this attempt.
    """

    what: str
    total: int
    done: int = 0
    first: int = field(init=False)
    began: float = field(init=False)
    said: float = field(init=False)

    def __post_init__(self) -> None:
        self.first = self.done
        self.began = self.said = time.monotonic()

    def step(self, count: int = 1) -> None:
        """Count steps that are done now."""
        self.done += count
        now = time.monotonic()
        if now - self.said >= EVERY_SECONDS and self.done < self.total:
            self.said = now
            left = (self.total - self.done) * (now - self.began) / (self.done - self.first)
            log.info("%s %d/%d  %s left", self.what, self.done, self.total, spoken(left))


def spoken(seconds: float) -> str:
    """A time as one reads it: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
