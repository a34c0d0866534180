"""Helpers that run the real workflow in a folder of its own."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from pipeline.store.artefact import STAGES_BY_KIND
from tests.helpers import forked

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("RETORT_DATA", ROOT / "data")).resolve()
TINY = ROOT / "tests" / "helpers" / "tiny.yaml"


def tiny() -> dict:
    """The tiny experiment as plain values, its data in the shared cache."""
    raw = yaml.safe_load(TINY.read_text())
    raw["run"]["data"] = str(DATA)
    return raw


@dataclass(frozen=True)
class Folder:
    """A working folder with a configuration and a store, and the code that works on it."""

    path: Path
    root: Path = ROOT
    name: str = "experiment.yaml"

    @property
    def config(self) -> Path:
        """Its configuration file."""
        return self.path / self.name

    def write(self, raw: dict) -> None:
        """Write a configuration."""
        self.config.write_text(yaml.safe_dump(raw, sort_keys=False))

    def command(self, *arguments: str) -> list[str]:
        """The command line of snakemake on this folder's configuration."""
        return [sys.executable, "-m", "snakemake", *self.options(*arguments)]

    def options(self, *arguments: str) -> list[str]:
        """Snakemake's options for this folder's configuration."""
        return [
            *("--snakefile", str(self.root / "Snakefile"), "--configfile", str(self.config)),
            *("--cores", "2", "--logger-retort-plain", *arguments),
        ]

    def snakemake(self, *arguments: str) -> subprocess.CompletedProcess:
        """Run snakemake here to its end."""
        return subprocess.run(
            self.command(*arguments),
            cwd=self.path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )

    def start(self, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.Popen:
        """Start snakemake here in a process group of its own, its log on a pipe."""
        return subprocess.Popen(
            self.command(*arguments),
            cwd=self.path,
            env=environ or environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def make(self) -> str:
        """Run the workflow to its end and return what it printed."""
        done = self.snakemake()
        assert done.returncode == 0, done.stderr[-4000:]
        return done.stderr

    def planned(self, *targets: str) -> set[str]:
        """The jobs a dry-run lists, as `kind/name`; a bank's shard group as `bank_group/a-b`."""
        options = self.options("--dry-run", *targets)
        fresh = self.root != ROOT
        done = forked.snakemake(options, self.path, environment(self.root), fresh=fresh)
        assert done.status == 0, done.text[-4000:]
        jobs = re.findall(r"^Job \d+: (\w+) (\S+)(?: shards (\S+))?$", done.text, re.M)
        return {f"bank_group/{group}" if group else f"{kind}/{name}" for kind, name, group in jobs}

    def stage(self, *arguments: str) -> subprocess.Popen:
        """Start `python -m pipeline` here, its log on a pipe."""
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *arguments],
            cwd=self.path,
            env=environment(),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def limited(self, size: int, *arguments: str) -> tuple[int, str]:
        """Run `python -m pipeline` unable to write a file of more than ``size`` bytes."""
        code = (
            f"import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}));"
            f"from pipeline.cli.main import main; sys.exit(main({list(arguments)!r}))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=self.path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, text(done)

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run `python -m pipeline` to its end: exit status and what it printed."""
        process = self.stage(*arguments)
        out, err = process.communicate()
        return process.returncode, out + err

    def fork(self, *arguments: str) -> tuple[int, str]:
        """The same in a child forked from this process, which has imported every stage already."""
        stages = (f"pipeline.stages.{stage}" for stage in STAGES_BY_KIND.values())
        forked.preload(*forked.HEAVY, "pipeline.cli.main", *stages)
        main = sys.modules["pipeline.cli.main"].main
        ended = forked.forked(lambda: main([*arguments]), self.path, environment())
        return ended.status, ended.text


def everything_of(student: str, raw: dict) -> set[str]:
    """A student's job and those behind it, seed 0."""
    return {f"student/{student}-0", *(f"evaluation/{student}-0.{s}" for s in raw["suites"])} | {
        "report/report"
    }


def every_job(raw: dict) -> set[str]:
    """All jobs of an experiment of one seed, 0, whose banks have a job a shard."""
    sections = ("datasets", "teachers", "discretizers", "banks", "generators")
    jobs = {f"{section.removesuffix('s')}/{name}" for section in sections for name in raw[section]}
    groups = {f"bank_group/{i}-{i + 1}" for b in raw["banks"].values() for i in range(b["shards"])}
    return jobs.union(groups, *(everything_of(student, raw) for student in raw["students"]))


def text(done: subprocess.CompletedProcess) -> str:
    """All that a process printed."""
    return done.stdout + done.stderr


def environment(root: Path = ROOT) -> dict[str, str]:
    """One thread a job, this repository first on the path."""
    path = os.pathsep.join((str(root), str(root / "workflow")))
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}


def read_until(process: subprocess.Popen, needle: str) -> str:
    """Read a process's log up to the line that holds ``needle``; fail if it ends before."""
    seen = ""
    for line in process.stderr:
        seen += line
        if needle in line:
            return seen
    raise AssertionError(f"ended without {needle!r}: {seen[-2000:]}")
