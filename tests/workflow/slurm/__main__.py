"""Run the tiny graph on this machine and through a cluster of one node; compare the two stores."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import yaml

from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.chaos import jobs
from tests.helpers.graph import ROOT, Folder, environment, tiny
from tests.workflow.slurm.claims import Claim, Runs, judge, show_evidence
from tests.workflow.slurm.cluster import (
    Failed,
    Unavailable,
    cluster,
    installed,
    only_one,
    wait_until,
)
from tests.workflow.slurm.trouble import Watch, make_trouble, release

PLACE = ROOT / "build" / "slurm-test"
CLUSTER = PLACE / "cluster"
BRISK = "tests.workflow.slurm.brisk_snakemake"
RUN_SECONDS = 3600  # of the run through SLURM, which takes three minutes on two idle cores
NEEDS = {
    "all": {"mem_mb": 1000, "runtime": 60, "partition": "work"},
    "student": {"gpus": 1},
}


def main() -> int:
    """Exit status 0 if all that is claimed was seen, or if no cluster can be started here."""
    try:
        installed()
    except Unavailable as reason:
        print(f"slurm-test: skipped: {reason}")
        return 0
    with only_one():
        return compare()


def compare() -> int:
    """Make the two runs and print every claim; exit status 1 if one does not hold."""
    shutil.rmtree(PLACE, ignore_errors=True)
    raw = experiment()
    runs = Runs(make_plan_from_dict(raw), PLACE / "workstation", PLACE / "slurm")
    began = time.monotonic()
    print("slurm-test: the tiny graph on this machine", flush=True)
    try:
        run_here(runs, raw)
        print(f"slurm-test: the same through SLURM ({time.monotonic() - began:.0f} s)", flush=True)
        claims = run_through_slurm(runs, raw)
    except Failed as reason:
        print(f"slurm-test: FAILED after {time.monotonic() - began:.0f} s: {reason}")
        return 1
    print(f"slurm-test: what was seen ({time.monotonic() - began:.0f} s)")
    for claim in claims:
        print(f"  {'yes' if claim.holds else 'NO '}  {claim.text}")
        if not claim.holds:
            print(f"       seen: {claim.seen}")
    return 0 if all(claim.holds for claim in claims) else 1


def experiment() -> dict:
    """The tiny experiment with a student of each kind of source: data set, bank, generator."""
    raw = tiny()
    raw["run"]["resources"] = NEEDS
    raw["students"] = {name: raw["students"][name] for name in ("natural", "dad", "derd")}
    return raw


def run_here(runs: Runs, raw: dict) -> None:
    """Make the experiment by the very commands of its jobs, one after the other.

    Raises:
        Failed: one of them failed.
    """
    runs.here.mkdir(parents=True)
    folder = Folder(runs.here)
    folder.write(raw)
    for arguments in (["plan", "--write", "--configfile", folder.name], *jobs(runs.plan)):
        status, printed = folder.fork(*arguments)
        if status:
            raise Failed(f"{' '.join(arguments)}: exit status {status}: {printed[-3000:]}")


def run_through_slurm(runs: Runs, raw: dict) -> list[Claim]:
    """Run the experiment on a cluster and make trouble; show what there is to see if it fails."""
    watch = Watch(PLACE / "held")
    environ = environment() | watch.hold_stages()
    with cluster(CLUSTER):
        process = start(runs.there, raw, environ, *options())
        try:
            wait_until(lambda: is_queued(process, runs.there), "the first job at the controller")
            edited = "students: this file was edited while jobs waited\n"
            (runs.there / "experiment.yaml").write_text(edited)
            make_trouble(watch, process, RUN_SECONDS)
            check_status(process, runs.there)
            claims = judge(watch, runs)
            if not all(claim.holds for claim in claims):
                print(show_evidence(watch, runs.there, CLUSTER))
            return claims
        except Failed:
            print(show_evidence(watch, runs.there, CLUSTER))
            raise
        finally:
            end(process)
            release(watch)


def options() -> list[str]:
    """The profile as it is shipped, its first waiting time cut to a test's."""
    quick = ["--slurm-init-seconds-before-status-checks", "2"]
    return ["--profile", str(ROOT / "profiles" / "slurm"), "--logger-retort-plain", *quick]


def start(folder: Path, raw: dict, environ: dict[str, str], *options: str) -> subprocess.Popen:
    """Snakemake in a folder of its own, its output in a file."""
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    command = [sys.executable, "-m", BRISK, "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", "experiment.yaml", *options]
    with (folder / "run.log").open("w") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environ, stdout=log, stderr=subprocess.STDOUT
        )


def is_queued(process: subprocess.Popen, folder: Path) -> bool:
    """Whether a run has handed its first job to the controller."""
    if process.poll() is not None:
        check_status(process, folder)
        raise Failed("the run ended before it submitted a job")
    return "has been submitted" in (folder / "run.log").read_text()


def check_status(process: subprocess.Popen, folder: Path) -> None:
    """Raise Failed with the end of what a run printed if it failed."""
    if process.returncode:
        log = (folder / "run.log").read_text()
        raise Failed(f"exit status {process.returncode}; {folder / 'run.log'}:\n{log[-6000:]}")


def end(process: subprocess.Popen) -> None:
    """Interrupt a run that has not ended; kill it if that takes too long."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(120)
        except subprocess.TimeoutExpired:
            process.kill()


sys.exit(main())
