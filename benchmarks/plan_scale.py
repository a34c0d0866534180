"""What planning a large experiment costs: `python -m benchmarks.plan_scale [folder]`.

The experiment has five data sets, fifteen methods, four students, three seeds and eight suites, and
for each data set a bank of 10,000 shards in groups of 100. Prints CPU seconds and peak memory of
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

ROOT = Path(__file__).parent.parent
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
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, seconds


def main(folder: Path) -> None:
    """Measure the costs and print them."""
    config = folder / "experiment.yaml"
    config.write_text(yaml.safe_dump(experiment(folder / "store"), sort_keys=False))
    text, seconds = used([sys.executable, "-c", PLAN, str(config)], folder)
    plan = json.loads(text)
    print(f"plan alone: {plan['artefacts']} artefacts, {seconds:.1f} CPU-s ", end="")
    print(f"({plan['import']:.1f} imports, {plan['plan']:.1f} plan), peak {plan['peak_mb']} MB")
    snakemake = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    dry = [*snakemake, "--configfile", str(config), "--cores", "2", "--dry-run", "--quiet", "all"]
    _, seconds = used(dry, folder)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(f"snakemake --dry-run: {jobs(plan)} jobs, {seconds:.1f} CPU-s, peak {peak} MB")
    text, seconds = used([sys.executable, "-c", PLAN, str(config), "write"], folder)
    print(f"job files: {json.loads(text)['orders']:.1f} CPU-s more, the first time")
    text, seconds = used([sys.executable, "-c", PLAN, str(config), "write"], folder)
    print(f"job files: {json.loads(text)['orders']:.1f} CPU-s more, when they are there")


def jobs(plan: dict) -> int:
    """Number of jobs: the artefacts, the shard groups of five banks, and the target."""
    return plan["artefacts"] + 5 * SHARDS // GROUP + 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as place:
            main(Path(place))
