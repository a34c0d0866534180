"""What a running job last said, read from its log in the artefact's folder."""

import re
import time
from dataclasses import dataclass, field
from pathlib import Path

TAIL_BYTES = 8192
LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (.*)")
TIME_LEFT = re.compile(r"(.*\S)  (\S.*) left")
WAITING = "not yet begun"
COUNTED = re.compile(r"(\d+)/(\d+)")


@dataclass(frozen=True)
class JobState:
    """What a job last said.

    Attributes:
        text: its last line without the time left; empty if it said nothing yet.
        left: the time left in words; empty if it did not say.
        share: of its work that is done, in [0,1]; None if it did not say.
    """

    text: str = ""
    left: str = ""
    share: float | None = None

    def __str__(self) -> str:
        return ", ".join(filter(None, [self.text, self.left and f"{self.left} left"])) or WAITING


@dataclass
class RunningJob:
    """A job that was started.

    Attributes:
        label: kind and name of its artefact.
        log_path: its log, to which earlier attempts may have written.
        start_size: bytes of the log when it was started.
    """

    label: str
    log_path: Path
    start_size: int = field(init=False)
    start_time: float = field(init=False)

    def __post_init__(self) -> None:
        self.start_time = time.monotonic()
        self.start_size = self.log_path.stat().st_size if self.log_path.exists() else 0

    def read_lines(self) -> list[str]:
        """The last lines that it has logged, oldest first."""
        try:
            with self.log_path.open("rb") as file:
                end = file.seek(0, 2)
                file.seek(max(self.start_size, end - TAIL_BYTES))
                text = file.read().decode(errors="replace")
        except OSError:  # on a cluster it may wait for hours, and has no log until it starts
            return []
        return [found[1] for line in text.splitlines() if (found := LINE.match(line))]

    def read_state(self) -> JobState:
        """What it last said."""
        lines = self.read_lines()
        return parse_state(lines[-1]) if lines else JobState()


def parse_state(line: str) -> JobState:
    """A line such as `step 55/100  45 s left` in its parts."""
    timed, counted = TIME_LEFT.fullmatch(line), COUNTED.search(line)
    share = int(counted[1]) / int(counted[2]) if counted and int(counted[2]) else None
    text, left = (timed[1], timed[2]) if timed else (line, "")
    return JobState(text, left, None if share is None else min(share, 1.0))
