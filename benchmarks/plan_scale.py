"""The plan of a large experiment: `python -m benchmarks.plan_scale`.

The experiment has five data sets, fifteen methods, four students, three seeds and eight suites, and
for each data set a bank of 10,000 shards in groups of 100. Measures CPU seconds and peak memory of
the plan alone and of a dry-run of Snakemake, and CPU seconds of writing the job files. No artefact
is made, and no data is needed.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from benchmarks.timing import (
    ROOT,
    describe_run,
    format_table,
    parse_settings,
    write_result,
)

METHODS = {  # method -> the teachers it needs
    "natural": (),
    "pgd_at": (),
    "trades": (),
    "kd": ("teacher",),
    "dist": ("teacher",),
    "dad": ("teacher",),
    "ard": ("teacher",),
    "iad": ("teacher",),
    "akd": ("teacher",),
    "rslad": ("teacher",),
    "adaad": ("teacher",),
    "adaiad": ("teacher",),
    "darwin": ("teacher",),
    "darwin_lf": ("teacher",),
    "mtard": ("natural", "robust"),
}
MODELS = ("resnet18", "resnet34", "mobilenetv2", "resnet20-s1-w16")
SUITES = 8
SHARDS, GROUP = 10_000, 100

PLAN = """
import json, resource, sys, time
from pathlib import Path
from pipeline.config.reader import read_config
from pipeline.planning.plan import write_job_files
from pipeline.planning.graph import make_plan
began = time.process_time()
plan = make_plan(read_config(Path(sys.argv[1])))
planned = time.process_time()
refs = list(plan.artefacts)
if len(sys.argv) > 2:
    write_job_files(plan)
written = time.process_time()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({
    "artefacts": len(refs), "import": began, "plan": planned - began,
    "orders": written - planned, "peak_mb": peak,
}))
"""


def experiment(store: Path, sets: int = 5, seeds: int = 3, suites: int = SUITES) -> dict:
    """The configuration as plain values."""
    names = [f"d{i}" for i in range(sets)]
    raw: dict = {"store": str(store), "run": {"shards_per_job": GROUP}, "report": {}}
    raw["recipes"] = {"main": {"epochs": 200}, "bank": {"epochs": 200, "augment": "none"}}
    raw["datasets"] = {name: dataset(i) for i, name in enumerate(names)}
    raw["teachers"], raw["discretizers"], raw["banks"], raw["students"] = {}, {}, {}, {}
    for name in names:
        for role in ("natural", "robust"):
            objective = "natural" if role == "natural" else "pgd_at"
            about = {"dataset": name, "model": "wrn-34-10", "objective": objective}
            raw["teachers"][f"{name}-{role}"] = about | {"recipe": "main"}
        raw["discretizers"][f"{name}-vq"] = {"dataset": name, "recipe": "bank"}
        bank = {"dataset": name, "teacher": f"{name}-natural", "discretizer": f"{name}-vq"}
        raw["banks"][f"{name}-dad"] = bank | {"shards": SHARDS}
        for method in METHODS:
            for model in MODELS:
                entry = student(name, method, model) | {"seeds": list(range(seeds))}
                raw["students"][f"{name}-{method}-{model}"] = entry
    attacks = ["clean", {"pgd": {"eps": "8/255"}}]
    raw["suites"] = {
        f"s{i}": {"attacks": [*attacks, {"pgd": {"steps": 30 + i}}], "models": "students"}
        for i in range(suites)
    }
    return raw


def dataset(number: int) -> dict:
    """A section for 1.3 million images in a file that need not exist."""
    source = {"path": f"set-{number}.npz", "sha256": f"{number:064x}", "test": 5000}
    return {"source": {"npz": source}, "train": 1_281_167, "val": 0, "test": 5000}


def student(data: str, method: str, model: str) -> dict:
    """The section of one method's student."""
    roles = METHODS[method]
    whose = {"teacher": "natural", "natural": "natural", "robust": "robust"}
    entry = {"dataset": data, "model": model, "objective": method, "recipe": "main"}
    if roles:
        entry["teachers"] = {role: f"{data}-{whose[role]}" for role in roles}
    if method == "dad":
        entry |= {"bank": f"{data}-dad", "recipe": "bank"}
    return entry


def used(command: list[str], folder: Path) -> tuple[str, float]:
    """A command's output, and the CPU seconds of all its processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    path = os.pathsep.join((str(ROOT), str(ROOT / "workflow")))
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, seconds


def measure(folder: Path, sizes: dict[str, int]) -> dict[str, float]:
    """Jobs, CPU seconds and MB of the plan, of a dry-run and of the job files."""
    config = folder / "experiment.yaml"
    config.write_text(yaml.safe_dump(experiment(folder / "store", **sizes), sort_keys=False))
    planning = [sys.executable, "-c", PLAN, str(config)]
    text, seconds = used(planning, folder)
    plan = json.loads(text)
    found = {"jobs": jobs(plan, sizes["sets"]), "plan with imports": seconds, "plan": plan["plan"]}
    found["MB of the plan"] = plan["peak_mb"]
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    dry = [*snakemake, "--configfile", str(config), "--cores", "2", "--dry-run", "--quiet", "all"]
    _, found["snakemake --dry-run"] = used(dry, folder)
    found["MB of the dry-run"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    for name in ("job files, first time", "job files, there already"):
        text, _ = used([*planning, "write"], folder)
        found[name] = json.loads(text)["orders"]
    return found


def jobs(plan: dict, sets: int) -> int:
    """Number of jobs: the artefacts, the shard groups of the banks, and the target."""
    return plan["artefacts"] + sets * SHARDS // GROUP + 1


def main() -> None:
    """Measure once and write `plan-of-thousands.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    sizes = {"sets": 1, "seeds": 1, "suites": 4} if settings.quick else {"sets": 5}
    with tempfile.TemporaryDirectory() as place:
        found = measure(Path(place), sizes)
    rows = [
        [name, f"{value:,.0f}" if name == "jobs" or name.startswith("MB") else f"{value:.1f}"]
        for name, value in found.items()
    ]
    text = f"""# The plan of a large experiment

`python -m benchmarks.plan_scale`: {sizes["sets"]} data sets, 15 methods, 4 students, a bank of
10,000 shards a data set. CPU seconds of all processes, measured once.
{describe_run(settings, takes_turns=False)}

{format_table(["what", "CPU seconds, MB or jobs"], rows)}"""
    write_result(settings, "plan-of-thousands", text, found)


if __name__ == "__main__":
    main()
