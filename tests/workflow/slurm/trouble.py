"""What goes wrong on a cluster, done to jobs on purpose while a run goes on."""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.helpers.graph import ROOT
from tests.workflow.slurm.cluster import Failed, ask, query

POLL_SECONDS = 1.0
HOOKS = Path(__file__).parent / "hooks"
FIELD = re.compile(r"(\S+?)=(\S*)")
COMMENT = re.compile(r"rule_(\w+)_wildcards_(\S+)")


def kill(number: int, pid: int) -> None:
    """The stage alone, as the kernel does when memory runs out."""
    os.kill(pid, signal.SIGKILL)


def cancel(number: int, pid: int) -> None:
    """The job, as a user or an administrator does."""
    ask("scancel", str(number))


def preempt(number: int, pid: int) -> None:
    """Everything that runs, by a job of the urgent partition that wants the whole node."""
    ask("sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "true")


# Whose first job meets which trouble. SLURM wakes a stopped process that it ends.
TROUBLES: dict[str, Callable[[int, int], None]] = {
    "train_teacher": kill,
    "distill": cancel,
    "evaluate": preempt,
}


@dataclass
class Watch:
    """The jobs that the controller has seen, and what was done to which.

    In the folder ``notes`` the stages that are to meet a trouble find a ticket and leave a note.
    """

    notes: Path
    jobs: dict[int, dict[str, str]] = field(default_factory=dict)  # as scontrol showed them last
    done: dict[str, int] = field(default_factory=dict)  # trouble -> id of its victim

    def hold_stages(self) -> dict[str, str]:
        """Lay a ticket for each trouble; the environment in which stages look for it."""
        self.notes.mkdir(parents=True)
        for verb in TROUBLES:
            (self.notes / f"{verb}.ticket").touch()
        return {"HELD_STAGES": str(self.notes), "PYTHONPATH": f"{HOOKS}{os.pathsep}{ROOT}"}


def look(watch: Watch, listed: str) -> None:
    """Note every job that ``scontrol -o show job`` has listed, with its rule and artefact's key."""
    for line in listed.splitlines():
        job = dict(FIELD.findall(line))
        if match := COMMENT.fullmatch(job.get("Comment", "")):
            about = {"rule": match[1], "key": match[2].rpartition("/")[2]}
            watch.jobs[int(job["JobId"])] = job | about


def read_state(pid: int) -> str:
    """A process's state, `T` if it is stopped; empty if it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def find_held(watch: Watch, verb: str) -> tuple[int, int]:
    """A verb's stage that has stopped itself: SLURM's id and the process's; zeros if none has."""
    with suppress(FileNotFoundError):
        number, pid = map(int, (watch.notes / f"{verb}.held").read_text().split())
        if read_state(pid) == "T":
            return number, pid
    return 0, 0


def is_due(watch: Watch, name: str) -> bool:
    """Whether a trouble is still to be made. The one that hits every job comes last.

    SLURM wakes each stage that it requeues, also one that waits for a trouble of its own.
    """
    names = [trouble.__name__ for trouble in TROUBLES.values()]
    return name not in watch.done and (name != names[-1] or len(watch.done) == len(names) - 1)


def make_trouble(watch: Watch, process: subprocess.Popen, limit: float) -> None:
    """While the process runs: kill a teacher's job, cancel a student's, preempt an evaluation's.

    Raises:
        Failed: the process still runs after ``limit`` seconds.
    """
    pause, deadline = threading.Event(), time.monotonic() + limit
    while process.poll() is None:
        look(watch, query("scontrol", "-o", "show", "job"))
        for verb, trouble in TROUBLES.items():
            number, pid = find_held(watch, verb)
            if number and is_due(watch, trouble.__name__):
                trouble(number, pid)
                watch.done[trouble.__name__] = number
                print(f"  {trouble.__name__}: SLURM job {number}, {verb}", flush=True)
        if time.monotonic() > deadline:
            raise Failed(f"the run has not ended after {limit:.0f} s")
        pause.wait(POLL_SECONDS)
    look(watch, ask("scontrol", "-o", "show", "job"))


def release(watch: Watch) -> None:
    """End the stages that still wait for their trouble."""
    for verb in TROUBLES:
        _, pid = find_held(watch, verb)
        if pid:
            os.kill(pid, signal.SIGKILL)
