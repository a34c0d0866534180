"""A job's log in the artefact's folder: every attempt appends to it, nothing removes it."""

import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import explain_error

LOG_FORMATTER = logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")
CONSOLE_VARIABLE = "RETORT_CONSOLE"  # set where a run shows its jobs from their logs
EXPLAINED_STATUS, UNEXPLAINED_STATUS = 2, 1  # exit statuses of a job that ended with an error


def get_log_path(folder: Path, part: str = "run") -> Path:
    """The path of the log of an artefact's job; ``part`` is `run` or a range of shards."""
    return folder / "attempts" / f"{part.replace(':', '-')}.log"


@dataclass
class JobLog:
    """A log file that is open for appending; where there is no room, lines are lost.

    Attributes:
        stream: None if the file could not be opened.
        lost_lines: number of lines that could not be written.
    """

    stream: io.TextIOWrapper | None
    lost_lines: int = 0

    def make_handler(self) -> logging.Handler:
        """A logging handler that writes here."""
        if self.stream is None:
            return logging.NullHandler()
        handler = logging.StreamHandler(self.stream)
        handler.setFormatter(LOG_FORMATTER)
        handler.handleError = self.count_lost_line  # type: ignore[method-assign]
        return handler

    def count_lost_line(self, record: logging.LogRecord) -> None:
        """Counts a line that found no room: the stage meets the same error, with a remedy."""
        if not isinstance(sys.exc_info()[1], OSError):
            raise
        self.lost_lines += 1

    def write_error(self, text: str, error: Exception | None = None) -> bool:
        """Writes a line, and the traceback of an error if given; returns whether it is there."""
        exc_info = (type(error), error, error.__traceback__) if error else None
        lost = self.lost_lines
        handler = self.make_handler()
        handler.handle(logging.LogRecord("retort", logging.ERROR, "", 0, text, (), exc_info))
        return self.stream is not None and self.lost_lines == lost


@contextmanager
def capture_job_log(folder: Path, part: str) -> Iterator[None]:
    """Copies the log of the block, and the error that ends it, to the artefact's own log.

    Where a run shows its jobs from their logs, the block prints nothing to the terminal.

    Raises:
        SystemExit: in place of an error that such a run finds in the log.
    """
    root_logger = logging.getLogger()
    is_shown_by_run = bool(os.environ.get(CONSOLE_VARIABLE))
    with ExitStack() as stack:
        job_log = JobLog(open_log_file(stack, get_log_path(folder, part)))
        if is_shown_by_run and job_log.stream is not None:
            stack.enter_context(print_into(job_log.stream.fileno()))
        handler = job_log.make_handler()
        root_logger.addHandler(handler)
        stack.callback(root_logger.removeHandler, handler)
        try:
            yield
        except Exception as error:
            explained = explain_error(error, str(folder))
            text = f"error: {explained or repr(error)}"
            needs_trace = not explained or getattr(error, "logs_cause", False)
            is_told = job_log.write_error(text, error if needs_trace else None)
            if is_shown_by_run and is_told:
                raise SystemExit(EXPLAINED_STATUS if explained else UNEXPLAINED_STATUS) from error
            raise


def open_log_file(stack: ExitStack, path: Path) -> io.TextIOWrapper | None:
    """A text stream that appends each write at once; None if the file cannot be opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        raw = stack.enter_context(path.open("ab", buffering=0))
    except OSError:  # the stage will meet the same error and report it with a remedy
        return None
    # nothing waits in a buffer, so that no line that found no room is tried again later
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", write_through=True)


@contextmanager
def print_into(descriptor: int) -> Iterator[None]:
    """Has all that the block prints, libraries and child processes too, go to an open file."""
    root_logger = logging.getLogger()
    terminal_handlers = list(root_logger.handlers)
    sys.stdout.flush()
    saved = {number: os.dup(number) for number in (1, 2)}
    for number in saved:
        os.dup2(descriptor, number)
    root_logger.handlers = []
    try:
        yield
    finally:
        root_logger.handlers += terminal_handlers
        for number, terminal in saved.items():
            os.dup2(terminal, number)
            os.close(terminal)
