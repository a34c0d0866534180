"""What a run prints: records of Snakemake in, lines out; and a real run that is asked to stop."""

import io
import logging
import re
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_retort.console import RunConsole
from snakemake_logger_plugin_retort.job_logs import JobState, RunningJob, parse_state

from pipeline.planning.graph import make_plan_from_dict
from pipeline.store.logs import get_log_path
from tests.helpers.graph import Folder, environment, tiny
from tests.workflow.test_resume import experiment

FAILED_COMMAND = "CalledProcessError: Command '… -m pipeline distill store/student/{key}' {how}."
KEY = "0123456789ab"


@dataclass
class Screen:
    """A console that writes into a string, and what Snakemake would send it."""

    store: Path
    is_dry_run: bool = False
    stream: io.StringIO = field(default_factory=io.StringIO)

    def __post_init__(self):
        self.console = RunConsole.open(self.stream, is_dry_run=self.is_dry_run, is_coloured=False)
        self.console.store = self.store

    def send(self, message: str | None, level: int = logging.INFO, **facts) -> None:
        """A record with an event's facts."""
        record = logging.LogRecord("snakemake", level, "", 0, message, (), None)
        vars(record).update(facts)
        self.console.handle(record)

    def start(self, number: int, kind: str, name: str, key: str = KEY, part: str = "") -> Path:
        """A job starts; returns its log's path."""
        wildcards = {"key": key, **dict(zip(("first", "stop"), part.split("-"), strict=False))}
        label = f"{kind.removesuffix('_group')} {name}" + (f" shards {part}" if part else "")
        facts = {"jobid": number, "rule_msg": label, "rule_name": kind, "wildcards": wildcards}
        self.send(None, event=LogEvent.JOB_INFO, **facts)
        folder = self.store / kind.removesuffix("_group") / key
        return get_log_path(folder, part or "run")

    def plan(self, **stats: int) -> None:
        """The counts of a run."""
        total = {"all": 1, "total": sum(stats.values()) + 1}
        self.send("Job stats: …", event=LogEvent.RUN_INFO, stats=stats | total)

    @property
    def lines(self) -> list[str]:
        """What is on the screen."""
        return self.stream.getvalue().splitlines()


@pytest.fixture
def screen(tmp_path):
    """A console without a terminal, closed afterwards."""
    screen = Screen(tmp_path)
    yield screen
    screen.console.close()


def write(path: Path, *words: str) -> None:
    """Append lines to a job's log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.writelines(f"2026-11-28 12:00:00 {line}\n" for line in words)


@pytest.mark.parametrize(
    ("line", "state"),
    [
        ("step 55/220  45 s left", JobState("step 55/220", "45 s", 0.25)),
        (
            "epoch 1/4  ce 2.285  3 h 05 min left",
            JobState("epoch 1/4  ce 2.285", "3 h 05 min", 0.25),
        ),
        (
            "square, chunk 1/2, 41% of it  8 min left",
            JobState("square, chunk 1/2, 41% of it", "8 min", 0.5),
        ),
        ("data set ready", JobState("data set ready")),
    ],
)
def test_a_jobs_line_is_read_in_parts(line, state):
    assert parse_state(line) == state


def test_only_what_this_attempt_said_counts(tmp_path):
    path = tmp_path / "run.log"
    write(path, "error: of an earlier attempt")
    job = RunningJob("student a-0", path)
    assert str(job.read_state()) == "not yet begun"
    write(path, "step 1/4  9 s left")
    with path.open("a") as file:
        file.write("a library warns\n")
    assert str(job.read_state()) == "step 1/4, 9 s left"


def test_a_line_a_job_and_one_a_minute(screen):
    screen.plan(student=1, bank_group=2, evaluation=1)
    path = screen.start(1, "student", "rslad-0")
    write(path, "step 55/100  45 s left")
    screen.start(2, "bank_group", "dad", part="0-4")
    minute = screen.console.format_minute()
    assert minute[5:] == (
        "  0 of 4 made; running: student rslad-0 (step 55/100, 45 s left); "
        "bank dad shards 0-4 (not yet begun)"
    )
    screen.send("Finished", event=LogEvent.JOB_FINISHED, job_id=1)
    screen.send("1 of 5 steps done", event=LogEvent.PROGRESS, done=1, total=5)
    assert screen.lines == [
        "to make: 2 shard groups, 1 student, 1 evaluation",
        "made student rslad-0 in 0 s (1 of 4)",
    ]


def test_many_jobs_of_a_cluster_are_one_line_a_minute(screen):
    for number in range(100):
        screen.start(number, "student", f"s-{number}", f"{number:012x}")
    assert screen.console.format_minute().endswith("student s-3 (not yet begun); and 96 more")


def test_a_failed_job_is_one_short_block(screen):
    path = screen.start(1, "student", "rslad-0")
    write(path, "epoch 1/2  ce 2.3  4 s left", "error: recipe.lr: not finite; lower it")
    failed = FAILED_COMMAND.format(key=KEY, how="returned non-zero exit status 2")
    screen.send(failed, logging.ERROR, event=LogEvent.ERROR, exception="RuleException")
    screen.send("Error in rule", logging.ERROR, event=LogEvent.JOB_ERROR, jobid=1)
    screen.send("Cannot restore a/manifest.json: no backup found.", logging.WARNING)
    screen.send("Exiting because a job execution failed. Look above", logging.ERROR)
    assert screen.lines == [
        "failed: student rslad-0",
        "  error: recipe.lr: not finite; lower it",
        f"  log: {path}",
        "  to go on: see to the cause, then run the same command again",
    ]


@pytest.mark.parametrize(
    "how", ["died with <Signals.SIGKILL: 9>", "returned non-zero exit status 137"]
)
def test_a_killed_job_says_by_what(screen, how):
    path = screen.start(1, "student", "rslad-0")
    write(path, "step 3/9  4 s left")
    text = FAILED_COMMAND.format(key=KEY, how=how)
    screen.send(text, logging.ERROR, event=LogEvent.ERROR, exception="RuleException")
    screen.send("Error in rule", logging.ERROR, event=LogEvent.JOB_ERROR, jobid=1)
    killed = "  killed by SIGKILL (out of memory?); before that: step 3/9  4 s left"
    assert screen.lines[1] == killed


def test_a_job_that_was_asked_to_stop_has_not_failed(screen):
    write(screen.start(1, "student", "a-0"), "asked to stop: saved at epoch 3, step 2")
    screen.send("Terminating processes on user request, this might take some time.")
    screen.send("Error in rule", logging.ERROR, event=LogEvent.JOB_ERROR, jobid=1)
    assert screen.lines == [
        "asked to stop: the running jobs save what they have",
        "stopped student a-0: asked to stop: saved at epoch 3, step 2",
    ]


def test_snakemakes_own_errors_are_shown_and_its_chatter_is_not(screen):
    for words in ("Building DAG of jobs...", "Select jobs to execute...", "Provided cores: 2"):
        screen.send(words)
    screen.send("MissingInputException: a.json", logging.ERROR, event=LogEvent.ERROR, exception="M")
    screen.send("Nothing to be done (all requested files are present and up to date).")
    screen.send("made: 1 (dataset tiny)\nreused: 0", is_summary=True)
    screen.send("Complete log(s): /a/.snakemake/log/b.log")
    final = "WorkflowError:\nAt least one job did not complete successfully."
    screen.send(final, logging.ERROR, event=LogEvent.ERROR, exception="WorkflowError")
    assert screen.lines == [
        "error: MissingInputException: a.json",
        "Nothing to be done (all requested files are present and up to date).",
        "made: 1 (dataset tiny)",
        "reused: 0",
        "log of the run: /a/.snakemake/log/b.log",
    ]


def test_a_dry_run_lists_names_by_kind(tmp_path):
    screen = Screen(tmp_path, is_dry_run=True)
    screen.plan(student=14, dataset=1)
    for number in range(14):
        screen.start(number, "student", f"s-{number}")
    screen.start(20, "dataset", "tiny")
    screen.plan(student=14, dataset=1)
    screen.send("This was a dry-run (flag -n). The order of jobs does not reflect …")
    names = ", ".join(f"s-{number}" for number in range(12))
    assert screen.lines == [
        "would make: 1 dataset, 14 students",
        "  dataset: tiny",
        f"  student: {names}, and 2 more",
        "nothing was run",
    ]
    screen.console.close()


def test_the_default_experiment_is_fewer_than_eighty_lines(screen):
    """28 jobs, twenty minutes, and the summary of a run that made all."""
    screen.plan(dataset=1, discretizer=1, student=7, teacher=3, bank_group=2, bank=1, evaluation=11)
    for number in range(28):
        screen.start(number, "student", f"s-{number}", f"{number:012x}")
    for _ in range(20):
        screen.console.print(screen.console.format_minute())
    for number in range(28):
        screen.send("Finished", event=LogEvent.JOB_FINISHED, job_id=number)
    screen.send("made\nreused\nlogs", is_summary=True)
    screen.send("Complete log(s): /a/b.log")
    assert len(screen.lines) == 1 + 20 + 28 + 3 + 1


def snakemake(folder: Folder, *arguments: str) -> subprocess.Popen:
    """The real snakemake with the console of the default profile, its output in `console.txt`."""
    command = [word for word in folder.command() if word != "--logger-retort-plain"]
    with (folder.path / "console.txt").open("w") as out:
        return subprocess.Popen(
            [*command, *arguments],
            cwd=folder.path,
            env=environment(),
            stdout=out,
            stderr=subprocess.STDOUT,
        )


def console_of(folder: Folder) -> str:
    """What it printed."""
    return (folder.path / "console.txt").read_text()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> tuple[Folder, Path, list[psutil.Process]]:
    """A run whose main process alone got SIGTERM while a teacher was trained; its log, its jobs."""
    folder, raw = Folder(tmp_path_factory.mktemp("stopped")), tiny()
    teacher = {**raw["teachers"]["natural"], "epochs": 500}
    raw = experiment(teachers={"natural": teacher})
    folder.write(raw)
    plan = make_plan_from_dict(raw)
    log = get_log_path(folder.path / plan.folder_path(plan.refs_by_name["teacher", "natural"]))
    process = snakemake(folder)
    while not (log.exists() and "epoch 1/500" in log.read_text()):
        with suppress(subprocess.TimeoutExpired):
            pytest.fail(f"ended with {process.wait(0.2)}: {console_of(folder)}")
    jobs = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 1
    return folder, log, jobs


def test_a_signal_to_the_run_has_its_jobs_save_and_leaves_no_orphans(stopped):
    folder, log, jobs = stopped
    assert jobs
    assert not [job for job in jobs if job.is_running()]
    assert re.search(r"asked to stop: saved at epoch \d+, step \d+\n$", log.read_text())
    assert (log.parent.parent / "state" / "checkpoint.pt").exists()
    assert not list(log.parent.parent.glob("*.lock"))


def test_a_stopped_run_ends_with_the_summary_and_how_to_go_on(stopped):
    folder, log, _ = stopped
    printed = console_of(folder)
    assert not re.search("Traceback|Reason:|Logging error|Select jobs", printed), printed
    lines = printed.splitlines()
    for start in (
        "to make: 1 dataset, 1 teacher",
        "made dataset tiny in ",
        "asked to stop: the running jobs save what they have",
        "made: 1 (dataset tiny)",
        "  teacher natural: 20",
        "to go on, run the same command again",
        "log of the run: ",
    ):
        assert [line for line in lines if line.startswith(start)], (start, printed)
    assert f"({log.relative_to(folder.path)})" in printed
    (full,) = (folder.path / ".snakemake/log").glob("*.log")
    assert "Reason: Missing output files" in full.read_text()


def test_other_flags_of_snakemake_still_work(stopped):
    folder, _, _ = stopped
    done = snakemake(folder, "--dry-run")
    assert done.wait() == 0
    assert console_of(folder).splitlines()[-3:] == [
        "would make: 1 teacher",
        "  teacher: natural",
        "nothing was run",
    ]
    plain = snakemake(folder, "--dry-run", "--logger-retort-plain")
    assert plain.wait() == 0
    assert "Reason: Missing output files" in console_of(folder)
