"""SIGTERM and SIGINT as a wish that a long stage grants at its next safe point."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class Wish:
    """Whether, and by which signal, the process was asked to stop."""

    signal: int = 0

    def __bool__(self) -> bool:
        return self.signal != 0


@contextmanager
def stoppable() -> Iterator[Wish]:
    """Inside the block a first SIGTERM or SIGINT is noted instead of obeyed, a second obeyed."""
    wish = Wish()

    def note(number: int, frame) -> None:
        wish.signal = number
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
