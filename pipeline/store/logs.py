"""A job's log, kept beside what it makes: appended to at every attempt, never taken away."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.errors import RetortError

FORM = logging.Formatter("%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S")


def log_of(folder: Path, part: str = "run") -> Path:
    """Where the log of an artefact's job lies; ``part`` is `run` or a range of shards."""
    return folder / "attempts" / f"{part.replace(':', '-')}.log"


@contextmanager
def kept(folder: Path, part: str) -> Iterator[None]:
    """Also write what the block logs, and the error it ends with, to the artefact's own log."""
    top = logging.getLogger()
    handler = opened(log_of(folder, part))
    top.addHandler(handler)
    try:
        yield
    except RetortError as error:
        say(handler, f"error: {error}")
        raise
    except Exception as error:
        say(handler, f"error: {error!r}", error)
        raise
    finally:
        top.removeHandler(handler)
        handler.close()


def opened(path: Path) -> logging.Handler:
    """A handler that appends to a file."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handler = logging.FileHandler(path)
    except OSError:  # the stage will meet the same and name it with its remedy
        return logging.NullHandler()
    handler.setFormatter(FORM)
    return handler


def say(handler: logging.Handler, text: str, error: Exception | None = None) -> None:
    """One line for the file alone: the terminal gets it from whoever catches the error."""
    shown = (type(error), error, error.__traceback__) if error else None
    handler.handle(logging.LogRecord("retort", logging.ERROR, "", 0, text, (), shown))
