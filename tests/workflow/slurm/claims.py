"""What is claimed of a run through SLURM, and what is shown where a claim does not hold."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.planning.plan import Plan
from pipeline.store.artefact import MANIFEST_FILE, read_json
from tests.workflow.slurm.cluster import query
from tests.workflow.slurm.trouble import TROUBLES, Watch

SHOWN = ("JobState", "Reason", "Restarts", "ExitCode", "MinMemoryNode", "TimeLimit", "TresPerJob")
LAST_LINES = 40


@dataclass(frozen=True)
class Claim:
    """A claim, whether it holds, and what was seen of the things it is about."""

    text: str
    holds: bool
    seen: object


@dataclass(frozen=True)
class Runs:
    """The same experiment's two folders: run on this machine, and run through SLURM."""

    plan: Plan
    here: Path
    there: Path


def judge(watch: Watch, runs: Runs) -> list[Claim]:
    """Every claim, with what was seen."""
    return [*judge_troubles(watch), *judge_submissions(watch, runs), *judge_results(runs)]


def judge_troubles(watch: Watch) -> list[Claim]:
    """The claims about the jobs that met trouble."""
    jobs, done = watch.jobs, watch.done
    again = {name: find_second(watch, done.get(name, 0)) for name in ("kill", "cancel")}
    asked = {name: (j.get("MinMemoryNode"), j.get("TimeLimit")) for name, j in again.items()}
    preempted = jobs.get(done.get("preempt", 0), {})
    return [
        Claim("one job was killed, one cancelled, one preempted", len(done) == len(TROUBLES), done),
        Claim("the killed and the cancelled job were submitted again", all(again.values()), again),
        Claim(
            "with twice the memory and time", set(asked.values()) == {("2000M", "02:00:00")}, asked
        ),
        Claim(
            "the preempted job was requeued by SLURM under its id",
            int(preempted.get("Restarts", 0)) > 0,
            preempted,
        ),
    ]


def judge_submissions(watch: Watch, runs: Runs) -> list[Claim]:
    """The claims about what jobs asked for and were given."""
    groups = [job for job in watch.jobs.values() if job["rule"] == "bank_group"]
    banks = [ref for ref in runs.plan.artefacts if ref.startswith("bank/")]
    asked = sum(len(runs.plan.list_shard_groups(ref)) for ref in banks)
    with_gpu = {j["rule"] for j in watch.jobs.values() if j.get("TresPerJob") == "gres:gpu:1"}
    costs = runs.there.glob("store/student/*/attempts/*.json")
    given = {str(path): read_json(path, "run again")["gpus"] for path in costs}
    return [
        Claim(
            "each shard group went as a job of its own",
            len({g["key"] for g in groups}) == asked and not any("ArrayJobId" in g for g in groups),
            groups,
        ),
        Claim("students asked for a GPU, and only they", with_gpu == {"student"}, with_gpu),
        Claim("SLURM gave them one each", bool(given) and set(given.values()) <= {"0", "1"}, given),
    ]


def judge_results(runs: Runs) -> list[Claim]:
    """The claims about what the run read and made."""
    log = (runs.there / "run.log").read_text().splitlines()
    edited = [line for line in log if "edited while" in line]
    here, there = (
        {ref: sums(f, runs.plan, ref) for ref in runs.plan.artefacts}
        for f in (runs.here, runs.there)
    )
    other = {ref: (here[ref], there[ref]) for ref in here if here[ref] != there[ref]}
    return [
        Claim("the edited configuration was not read", not edited, edited),
        Claim(f"{len(here)} artefacts have the workstation's bytes", not other, other),
    ]


def find_second(watch: Watch, number: int) -> dict:
    """The job that was submitted for the same artefact after this one; empty if none was."""
    key = watch.jobs.get(number, {}).get("key")
    later = [n for n, job in watch.jobs.items() if n > number and job["key"] == key]
    return watch.jobs[min(later)] if later else {}


def sums(folder: Path, plan: Plan, ref: str) -> dict:
    """Sums of an artefact's files; of the report, which tells times, its table's alone."""
    listed = read_json(folder / plan.folder_path(ref) / MANIFEST_FILE, "run again")["files"]
    return {"table.md": listed["table.md"]} if ref.startswith("report/") else listed


def show_evidence(watch: Watch, there: Path, cluster_root: Path) -> str:
    """Every job as it was seen last, the node, and the ends of all logs that may say more."""
    parts = ["jobs as they were seen last:"]
    for number, job in sorted(watch.jobs.items()):
        shown = " ".join(f"{name}={job[name]}" for name in SHOWN if name in job)
        parts.append(f"  {number} {job['rule']} {job['key']} {shown}")
    for command in (["squeue", "--all"], ["sinfo", "--list-reasons"], ["scontrol", "show", "node"]):
        parts += [f"{' '.join(command)}:", query(*command)]
    failed = {str(n) for n, job in watch.jobs.items() if job["JobState"] != "COMPLETED"}
    logs = [path for path in (there / "logs").rglob("*.log") if path.stem in failed]
    for path in [there / "run.log", *logs, *sorted(cluster_root.glob("*.log"))]:
        if path.exists():
            last = path.read_text(errors="replace").splitlines()[-LAST_LINES:]
            parts += [f"the end of {path}:", *(f"  {line}" for line in last)]
    return "\n".join(parts)
