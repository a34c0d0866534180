"""SIGTERM and SIGINT as a request to stop, which a long job follows at its next safe point."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass
class StopRequest:
    """Whether, and by which signal, the process was asked to stop."""

    signal_number: int = 0

    def __bool__(self) -> bool:
        return self.signal_number != 0


@contextmanager
def defer_stop_signals() -> Iterator[StopRequest]:
    """Records the first SIGTERM or SIGINT of the block; a second one takes effect as usual."""
    stop_request = StopRequest()

    def record_signal(number: int, frame) -> None:
        stop_request.signal_number = number
        for each, handler in previous_handlers.items():
            signal.signal(each, handler)

    previous_handlers = {
        s: signal.signal(s, record_signal) for s in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield stop_request
    finally:
        for number, handler in previous_handlers.items():
            signal.signal(number, handler)
