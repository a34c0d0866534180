"""The console of a run: from Snakemake's records to lines."""

import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from logging import WARNING, LogRecord
from pathlib import Path
from typing import TextIO

from rich.console import Console
from rich.text import Text
from snakemake_interface_logger_plugins.common import LogEvent

from pipeline.progress import format_duration
from pipeline.store.logs import get_log_path
from pipeline.upkeep.run_summary import find_full_disk
from snakemake_logger_plugin_retort.job_logs import RunningJob
from snakemake_logger_plugin_retort.live import LiveLines

KINDS = (
    *("dataset", "teacher", "discretizer", "bank_group", "bank", "generator", "student"),
    *("evaluation", "report"),
)
MINUTE_SECONDS = 60
NAMES_PER_KIND = 12  # of a dry run, at most
JOBS_PER_LINE = 4  # of the line a minute, at most
KILLED_BY = re.compile(
    r"/([0-9a-f]{12})\b.*(?:died with <Signals\.(\w+)|exit status (137|143))", re.S
)
STATUS_SIGNALS = {"137": "SIGKILL", "143": "SIGTERM"}
SHOWN_STARTS = ("Nothing to be done",)
HIDDEN_STARTS = ("Exiting because a job execution failed", "Cannot restore")
HIDDEN_ERRORS = ("At least one job did not complete successfully",)
STOPPED_START = "asked to stop"  # of a job's last line
LOG_HINT, STOPPING, DRY_END = "Complete log(s): ", "Terminating processes", "This was a dry-run"


@dataclass
class RunConsole:
    """Turns records into lines; a thread refreshes what is running.

    Attributes:
        out: where the lines go.
        live: the lines of running jobs on a terminal; None elsewhere.
        jobs: those that run, by Snakemake's number.
        signals: the signal that killed a job, by the key of its artefact.
        listed: names of a dry run's artefacts, by kind.
    """

    out: Console
    is_dry_run: bool
    live: LiveLines | None
    store: Path = field(default_factory=lambda: Path(os.environ.get("RETORT_STORE", "store")))
    jobs: dict[int, RunningJob] = field(default_factory=dict)
    done: int = 0
    total: int = 0
    signals: dict[str, str] = field(default_factory=dict)
    listed: dict[str, list[str]] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)
    is_closed: threading.Event = field(default_factory=threading.Event)
    minute_thread: threading.Thread | None = None

    @staticmethod
    def open(stream: TextIO, *, is_dry_run: bool, is_coloured: bool) -> "RunConsole":
        """The console of a stream; it is live if the stream is a terminal."""
        out = Console(file=stream, no_color=not is_coloured, highlight=False, markup=False)
        is_live = out.is_terminal and not out.is_dumb_terminal and not is_dry_run
        console = RunConsole(out, is_dry_run, None)
        console.live = LiveLines(console) if is_live else None
        return console

    def handle(self, record: LogRecord) -> None:
        """Shows what a record says, if it is for the console."""
        event = getattr(record, "event", None)
        with self.lock:
            if event in self.event_handlers:
                self.event_handlers[event](vars(record))
            elif event is None:
                self.show_message(record)

    @property
    def event_handlers(self) -> Mapping[LogEvent, Callable[[dict], None]]:
        """What handles each event that is shown."""
        return {
            LogEvent.RUN_INFO: self.show_plan,
            LogEvent.JOB_INFO: self.start_job,
            LogEvent.JOB_FINISHED: self.finish_job,
            LogEvent.JOB_ERROR: self.fail_job,
            LogEvent.ERROR: self.show_error,
        }

    def print(self, text: str, style: str = "") -> None:
        """Writes lines; a terminal that has gone is no error, the run saves and ends."""
        try:
            self.out.print(Text(text, style), soft_wrap=True)  # else the live lines take the style
        except OSError:
            self.live = None

    def show_plan(self, record: dict) -> None:
        """Counts of what will be made, once."""
        stats = {kind: record["stats"][kind] for kind in KINDS if kind in record["stats"]}
        if not self.total and stats:
            self.total = sum(stats.values())
            head = "would make" if self.is_dry_run else "to make"
            counted = ", ".join(format_count(kind, number) for kind, number in stats.items())
            self.print(f"{head}: {counted}")

    def start_job(self, record: dict) -> None:
        """Follows a job; a dry run's is listed."""
        label = record["rule_msg"]
        if not label:  # the target rule
            return
        if self.is_dry_run:
            kind, _, name = label.partition(" ")
            self.listed.setdefault(kind, []).append(name)
            return
        rule, wildcards = record["rule_name"], record["wildcards"]
        kind = "bank" if rule == "bank_group" else rule
        part = f"{wildcards['first']}-{wildcards['stop']}" if rule == "bank_group" else "run"
        path = get_log_path(self.store / kind / wildcards["key"], part)
        self.jobs[record["jobid"]] = RunningJob(label, path)
        if not self.total:  # `--quiet progress` leaves out the counts
            return
        if self.live is not None:
            self.live.start()
        elif self.minute_thread is None:
            self.minute_thread = threading.Thread(target=self.print_each_minute, daemon=True)
            self.minute_thread.start()

    def finish_job(self, record: dict) -> None:
        """A line for what was made."""
        job = self.jobs.pop(record["job_id"], None)
        if job is not None:
            self.done += 1
            took = format_duration(time.monotonic() - job.start_time)
            self.print(f"made {job.label} in {took} ({self.done} of {self.total})", "green")

    def fail_job(self, record: dict) -> None:
        """A block for a job that failed: artefact, error, log, how to go on."""
        job = self.jobs.pop(record["jobid"], None)
        if job is None:
            return
        told = self.find_error(job)
        if told.startswith(STOPPED_START):
            self.print(f"stopped {job.label}: {told}", "yellow")
            return
        self.print(f"failed: {job.label}", "bold red")
        self.print(f"  {told}")
        self.print(f"  log: {job.log_path}")
        self.print("  to go on: see to the cause, then run the same command again")

    def find_error(self, job: RunningJob) -> str:
        """The last error line of a failed job's log, or what is known of its end."""
        lines = job.read_lines()
        told = [line for line in lines if line.startswith(("error: ", STOPPED_START))]
        if told:
            return told[-1]
        killer = self.signals.get(job.log_path.parent.parent.name)
        if not killer and (problem := find_full_disk(self.store)):
            return f"error: {problem}"
        ended = f"killed by {killer}" if killer else "ended without an error in its log"
        memory = " (out of memory?)" if killer == "SIGKILL" else ""
        return f"{ended}{memory}" + (f"; before that: {lines[-1]}" if lines else "")

    def show_error(self, record: dict) -> None:
        """An error of Snakemake's own; one of a job comes with the job."""
        text = str(record["msg"])
        if record.get("exception") == "CalledProcessError" or "CalledProcessError" in text:
            if found := KILLED_BY.search(text):
                self.signals[found[1]] = found[2] or STATUS_SIGNALS[found[3]]
        elif not any(words in text for words in HIDDEN_ERRORS):
            self.print(f"error: {text.strip()}", "red")

    def show_message(self, record: LogRecord) -> None:
        """Warnings, errors, the run's summary, and the few of Snakemake's words that matter."""
        text = str(record.msg or "").strip()
        if getattr(record, "is_summary", False) or text.startswith(SHOWN_STARTS):
            self.stop_live()
            self.print(text)
        elif text.startswith(LOG_HINT):
            self.print(f"log of the run: {text.removeprefix(LOG_HINT)}")
        elif text.startswith(STOPPING):
            self.print("asked to stop: the running jobs save what they have", "yellow")
        elif text.startswith(DRY_END):
            self.print_listing()
        elif record.levelno >= WARNING and text and not text.startswith(HIDDEN_STARTS):
            self.print(text, "red" if record.levelno > WARNING else "yellow")

    def print_listing(self) -> None:
        """A dry run's artefacts, a line a kind."""
        for kind in filter(self.listed.get, KINDS):
            names = self.listed[kind]
            more = len(names) - NAMES_PER_KIND
            tail = f", and {more} more" if more > 0 else ""
            self.print(f"  {kind}: {', '.join(names[:NAMES_PER_KIND])}{tail}")
        self.print("nothing was run")

    def print_each_minute(self) -> None:
        """Without a terminal: once a minute how far the running jobs are."""
        while not self.is_closed.wait(MINUTE_SECONDS):
            with self.lock:
                if self.jobs:
                    self.print(self.format_minute())

    def format_minute(self) -> str:
        """The line of a minute: what is made, and what runs, how far, and for how long."""
        shown = [f"{job.label} ({job.read_state()})" for job in list(self.jobs.values())]
        more = len(shown) - JOBS_PER_LINE
        tail = f"; and {more} more" if more > 0 else ""
        head = f"{time.strftime('%H:%M')}  {self.done} of {self.total} made; running: "
        return head + "; ".join(shown[:JOBS_PER_LINE]) + tail

    def stop_live(self) -> None:
        """Takes the live lines away for good."""
        if self.live is not None:
            self.live.stop()

    def close(self) -> None:
        """Ends the threads."""
        self.is_closed.set()
        self.stop_live()
        if self.minute_thread is not None:
            self.minute_thread.join()


def format_count(rule: str, number: int) -> str:
    """`2 teachers`, `1 bank`; a shard group is a part of a bank."""
    name = "shard group" if rule == "bank_group" else rule
    return f"{number} {name}{'' if number == 1 else 's'}"
