"""A job's log in the artefact's folder: every attempt appends to it, nothing removes it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RetortError

LOG_FORMATTER = logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


def get_log_path(folder: Path, part: str = "run") -> Path:
    """The path of the log of an artefact's job; ``part`` is `run` or a range of shards."""
    return folder / "attempts" / f"{part.replace(':', '-')}.log"


@contextmanager
def capture_job_log(folder: Path, part: str) -> Iterator[None]:
    """Copies the log of the block, and the error that ends it, to the artefact's own log."""
    root_logger = logging.getLogger()
    handler = open_log_handler(get_log_path(folder, part))
    root_logger.addHandler(handler)
    try:
        yield
    except RetortError as error:
        write_log_record(handler, f"error: {error}")
        raise
    except Exception as error:
        write_log_record(handler, f"error: {error!r}", error)
        raise
    finally:
        root_logger.removeHandler(handler)
        handler.close()


def open_log_handler(path: Path) -> logging.Handler:
    """A handler that appends to a file; a null handler if the file cannot be opened."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path)
    except OSError:  # the stage will meet the same error and report it with a remedy
        return logging.NullHandler()
    handler.setFormatter(LOG_FORMATTER)
    return handler


def write_log_record(handler: logging.Handler, text: str, error: Exception | None = None) -> None:
    """Writes one line to the file alone; the terminal gets it from the caller."""
    exc_info = (type(error), error, error.__traceback__) if error else None
    handler.handle(logging.LogRecord("retort", logging.ERROR, "", 0, text, (), exc_info))
