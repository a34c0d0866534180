"""Peak memory of every stage: `python -m benchmarks.stage_memory`.

The tiny experiment's jobs, one after the other, each a process of its own as Snakemake starts it.
What the process held at most is the kernel's count. With `--store`, the records of that store are
read beside it.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.timing import (
    ROOT,
    Settings,
    describe_run,
    format_table,
    parse_settings,
    write_result,
)
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.store.artefact import STAGES_BY_KIND
from pipeline.store.attempt_cost import sum_attempt_costs


def experiment(folder: Path, quick: bool) -> dict:
    """The tiny experiment; a quick one has the DAD student and what it needs."""
    raw = yaml.safe_load((ROOT / "tests" / "helpers" / "tiny.yaml").read_text())
    raw |= {"store": str(folder / "store")}
    raw["run"]["data"] = os.environ.get("RETORT_DATA", str(ROOT / "data"))
    if quick:
        raw["students"] = {"dad": raw["students"]["dad"]}
        raw["teachers"] = {"clip": raw["teachers"]["clip"]}
        del raw["generators"]
        raw["suites"]["main"]["attacks"] = ["clean"]
    return raw


def run_job(stage: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak MB of one job."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "pipeline", stage, str(folder)]
    start = time.monotonic()
    process = subprocess.Popen(command, env=env, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{stage}: ended with status {process.returncode}")
    return time.monotonic() - start, used.ru_maxrss / 1024


def measure(settings: Settings) -> dict[str, list[tuple[str, float, float]]]:
    """Name, seconds and peak MB of each job, by stage."""
    found: dict[str, list[tuple[str, float, float]]] = {}
    with tempfile.TemporaryDirectory() as place:
        plan = make_plan_from_dict(experiment(Path(place), settings.quick))
        write_job_files(plan)
        for ref, entry in plan.artefacts.items():
            stage = STAGES_BY_KIND[entry.kind]
            cost = run_job(stage, plan.folder_path(ref))
            found.setdefault(stage, []).append((entry.name, *cost))
    return found


def read_store(store: Path | None) -> dict[str, tuple[str, float]]:
    """By stage, the job of a finished store that held most, and its MB."""
    found: dict[str, tuple[str, float]] = {}
    for kind, stage in STAGES_BY_KIND.items():
        named = sorted((store / "by-name" / kind).iterdir()) if store is not None else []
        costs = [(p.name, sum_attempt_costs(p)["peak_mb"]) for p in named]
        if costs:
            found[stage] = max(costs, key=lambda cost: cost[1])
    return found


def main() -> None:
    """Measure and write `stage-memory.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    tiny, demo = measure(settings), read_store(settings.store)
    rows, data = [], {}
    for stage, jobs in tiny.items():
        name, _, peak = max(jobs, key=lambda job: job[2])
        least = min(seconds for _, seconds, _ in jobs)
        most = f"{demo[stage][1]:,.0f} ({demo[stage][0]})" if stage in demo else "–"
        rows.append([stage, len(jobs), f"{peak:,.0f} ({name})", f"{least:.1f}", most])
        data[stage] = {"tiny": peak, "demo": demo[stage][1] if stage in demo else None}
    head = ["stage", "jobs", "peak MB, tiny experiment", "least seconds of a job"]
    text = f"""# Peak memory of every stage

`python -m benchmarks.stage_memory`: the tiny experiment of the tests, each job a process, once; the
job that held most is named. The demo's column is read off the records of a finished store.
{describe_run(settings, takes_turns=False)}

{format_table([*head, "peak MB, demo"], rows)}"""
    write_result(settings, "stage-memory", text, data)


if __name__ == "__main__":
    main()
