"""Run the tiny graph on this machine and through a cluster of one node; compare the two stores."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan
from pipeline.store.artefact import MANIFEST_FILE, read_json
from tests.helpers.graph import ROOT, environment, tiny
from tests.workflow.slurm.cluster import Unavailable, cluster, installed
from tests.workflow.slurm.trouble import TROUBLES, Watch, make_trouble

PLACE = ROOT / "build" / "slurm-test"
NEEDS = {
    "all": {"mem_mb": 1000, "runtime": 10, "partition": "work"},
    "student": {"gpus": 1},
}


def main() -> int:
    """Exit status 0 if all that is claimed was seen, or if no cluster can be started here."""
    try:
        installed()
    except Unavailable as reason:
        print(f"slurm-test: skipped: {reason}")
        return 0
    shutil.rmtree(PLACE, ignore_errors=True)
    here, there = PLACE / "workstation", PLACE / "slurm"
    raw = tiny()
    raw["run"]["resources"] = NEEDS
    began = time.monotonic()
    print("slurm-test: the tiny graph on this machine", flush=True)
    local = start(here, raw, "--cores", "2")
    finish(local, here)
    print(f"slurm-test: the same through SLURM ({time.monotonic() - began:.0f} s)", flush=True)
    watch = Watch(there)
    with cluster(PLACE / "cluster"):
        remote = start(there, raw, *cluster_options())
        queued(there)
        (there / "experiment.yaml").write_text("students: this file was edited while jobs waited\n")
        make_trouble(watch, remote)
        finish(remote, there)
        facts = seen(watch, make_plan_from_dict(raw), here, there)
    print(f"slurm-test: what was seen ({time.monotonic() - began:.0f} s)")
    for claim, holds in facts.items():
        print(f"  {'yes' if holds else 'NO '}  {claim}")
    return 0 if all(facts.values()) else 1


def cluster_options() -> list[str]:
    """The profile as it is shipped, its waiting times cut to a test's."""
    quick = ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5"]
    return ["--profile", str(ROOT / "profiles" / "slurm"), "--logger-retort-plain", *quick]


def start(folder: Path, raw: dict, *options: str) -> subprocess.Popen:
    """Snakemake in a folder of its own, its output in a file."""
    folder.mkdir(parents=True)
    (folder / "experiment.yaml").write_text(yaml.safe_dump(raw, sort_keys=False))
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--configfile", "experiment.yaml", *options]
    with (folder / "run.log").open("w") as log:
        return subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=log, stderr=subprocess.STDOUT
        )


def finish(process: subprocess.Popen, folder: Path) -> None:
    """Wait for a run; if it fails, show the end of what it printed."""
    if process.wait():
        log = (folder / "run.log").read_text()
        raise SystemExit(f"slurm-test: {folder / 'run.log'}:\n{log[-6000:]}")


def queued(folder: Path) -> None:
    """Wait until the run has handed its first job to the controller."""
    while "has been submitted" not in (folder / "run.log").read_text():
        time.sleep(0.5)


def seen(watch: Watch, plan: Plan, here: Path, there: Path) -> dict[str, bool]:
    """Each claim, and whether it was seen to hold."""
    jobs, done = watch.jobs, watch.done
    log = (there / "run.log").read_text()
    again = [second_of(watch, done.get(name, 0)) for name in ("kill", "cancel")]
    sums = [read_json(p, "run again") for p in there.glob("store/student/*/attempts/*.json")]
    return {
        "one job was killed, one cancelled, one preempted": len(done) == len(TROUBLES),
        "the killed and the cancelled job were submitted again": all(again),
        "with twice the memory and time": all(
            (job.get("MinMemoryNode"), job.get("TimeLimit")) == ("2000M", "00:20:00")
            for job in again
        ),
        "the preempted job was requeued by SLURM under its id": (
            "preempt" in done and int(jobs[done["preempt"]]["Restarts"]) > 0
        ),
        "shard groups went as one array": any(
            job["rule"] == "bank_group" and "ArrayTaskId" in job for job in jobs.values()
        ),
        "students asked for a GPU, and only they": {
            job["rule"] for job in jobs.values() if job.get("TresPerJob") == "gres:gpu:1"
        }
        == {"student"},
        "SLURM gave them one each": bool(sums) and {s["gpus"] for s in sums} <= {"0", "1"},
        "the edited configuration was not read": "edited while" not in log,
        f"{len(plan.artefacts)} artefacts have the workstation's bytes": all(
            files(here, plan, ref) == files(there, plan, ref) for ref in plan.artefacts
        ),
    }


def second_of(watch: Watch, number: int) -> dict:
    """The job that was submitted for the same artefact after this one."""
    key = watch.jobs.get(number, {}).get("key")
    later = [job for other, job in watch.jobs.items() if other > number and job["key"] == key]
    return later[0] if later else {}


def files(folder: Path, plan: Plan, ref: str) -> dict:
    """Sums of an artefact's files; of the report, which tells times, its table's alone."""
    listed = read_json(folder / plan.folder_path(ref) / MANIFEST_FILE, "run again")["files"]
    return {"table.md": listed["table.md"]} if ref.startswith("report/") else listed


sys.exit(main())
