"""What goes wrong on a cluster, done to jobs on purpose while a run goes on."""

import os
import re
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.store.artefact import MANIFEST_FILE
from tests.workflow.slurm.cluster import query

POLL_SECONDS = 0.5
FIELD = re.compile(r"(\S+?)=(\S*)")
COMMENT = re.compile(r"rule_(\w+)_wildcards_(\S+)")


@dataclass
class Watch:
    """A run's folder, the jobs that the controller has seen, and what was done to which."""

    folder: Path
    jobs: dict[int, dict[str, str]] = field(default_factory=dict)  # as scontrol showed them last
    done: dict[str, int] = field(default_factory=dict)  # trouble -> id of its victim


def look(watch: Watch) -> None:
    """Note every job that the controller still knows, with its rule and its artefact's key."""
    for line in query("scontrol", "-o", "show", "job").splitlines():
        job = dict(FIELD.findall(line))
        if match := COMMENT.fullmatch(job.get("Comment", "")):
            about = {"rule": match[1], "key": match[2].rpartition("/")[2]}
            watch.jobs[int(job["JobId"])] = job | about


def stage_of(folder: Path, key: str) -> int:
    """Process id of this run's stage that makes the artefact of a key, held up; 0 if none does.

    Held up, it cannot finish before its trouble comes; SLURM wakes what it ends.
    """
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes().decode().split("\0")
            stage = command[1:3] == ["-m", "pipeline"] and command[4].endswith(key)
            if stage and (place / "cwd").resolve() == folder.resolve():
                os.kill(int(place.name), signal.SIGSTOP)
                if not (folder / command[4] / MANIFEST_FILE).exists():
                    return int(place.name)
                os.kill(int(place.name), signal.SIGCONT)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return 0


def victim(watch: Watch, rule: str) -> tuple[int, int]:
    """A running job of a rule whose stage has begun: SLURM's id and the stage's process id."""
    for number, job in watch.jobs.items():
        if (job["rule"], job["JobState"]) == (rule, "RUNNING") and (
            pid := stage_of(watch.folder, job["key"])
        ):
            return number, pid
    return 0, 0


def kill(number: int, pid: int) -> None:
    """The stage alone, as the kernel does when memory runs out."""
    os.kill(pid, signal.SIGKILL)


def cancel(number: int, pid: int) -> None:
    """The job, as a user or an administrator does."""
    query("scancel", str(number))


def preempt(number: int, pid: int) -> None:
    """Everything that runs, by a job of the urgent partition that wants the whole node."""
    query("sbatch", "-p", "urgent", "--exclusive", "-o", "/dev/null", "--wrap", "true")


TROUBLES = {"teacher": kill, "student": cancel, "evaluation": preempt}


def make_trouble(watch: Watch, process: subprocess.Popen) -> None:
    """While the process runs: kill a teacher's job, cancel a student's, preempt an evaluation's."""
    pause = threading.Event()
    while process.poll() is None:
        look(watch)
        for rule, trouble in TROUBLES.items():
            if trouble.__name__ not in watch.done:
                number, pid = victim(watch, rule)
                if number:
                    trouble(number, pid)
                    watch.done[trouble.__name__] = number
                    key = watch.jobs[number]["key"]
                    print(f"  {trouble.__name__}: SLURM job {number}, {rule} {key}", flush=True)
        pause.wait(POLL_SECONDS)
    look(watch)
