"""What a large report costs: `python -m benchmarks.report [folder]`.

Fifty students, ten attacks on 10,000 images each: a store is made up, and its report is rendered in
a process of its own. Prints seconds, CPU-seconds, peak memory and the sizes of what was written.
Aim: 20 s, 2 GB, a page of at most 6 MB.
"""

import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pyarrow as pa

from pipeline.core.attack_protocol import AttackPoint
from pipeline.models.classifier import MODEL_FILE, build_classifier, save_classifier
from pipeline.stages.evaluate import OUTCOME_SCHEMA, OUTCOMES_FILE, write_chunk
from pipeline.store.artefact import write_json
from tests.helpers.points import CLEAN, EPS, pgd
from tests.report.test_page import (
    BANK_FACTS,
    CLASSES,
    Q_FACTS,
    Store,
    write_bank,
    write_data,
    write_quantiser,
    write_trained,
)

STUDENTS, WITH_BANK, IMAGES, EPOCHS, SEED = 50, 5, 10_000, 100, 0
POINTS = (
    CLEAN,
    AttackPoint("fgsm", EPS),
    *(pgd(20, eps / 255) for eps in (2, 4, 8, 12)),
    pgd(50, EPS),
    AttackPoint("cw_linf", EPS),
    AttackPoint("square", EPS),
    AttackPoint("autoattack", EPS),
)
RENDER = """
import json, resource, sys, time
from pathlib import Path
wall, cpu = time.monotonic(), time.process_time()
from pipeline.stages import report
from pipeline.store.artefact import read_job, write_manifest
job = read_job(Path(sys.argv[1]))
write_manifest(job, report.run(job))
print(json.dumps({
    "seconds": round(time.monotonic() - wall, 1),
    "CPU-seconds": round(time.process_time() - cpu, 1),
    "peak MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}))
"""


def draw_outcomes(folder: Path, rng: np.random.Generator) -> list[str]:
    """Write outcomes in which each stronger attack turns some of the images that are left."""
    label, tables = rng.integers(len(CLASSES), size=IMAGES), []
    right = rng.random(IMAGES) < rng.uniform(0.6, 0.9)
    kept = rng.uniform(0.8, 0.95)
    for point in POINTS:
        prediction = np.where(right, label, (label + 1) % len(CLASSES))
        columns = {name: [value] * IMAGES for name, value in asdict(point).items()}
        columns |= {"index": np.arange(IMAGES), "label": label, "prediction": prediction}
        known = {name: columns.get(name, [None] * IMAGES) for name in OUTCOME_SCHEMA.names}
        tables.append(pa.table(known, schema=OUTCOME_SCHEMA))
        right = right & (rng.random(IMAGES) < kept)
    write_chunk(folder / OUTCOMES_FILE, pa.concat_tables(tables))
    return [OUTCOMES_FILE]


def write_student(folder: Path, rng: np.random.Generator) -> list[str]:
    """Write a student's weights and a training of a hundred epochs."""
    model = build_classifier("resnet8-s2-w16", len(CLASSES), (0.5,) * 3, (0.2,) * 3)
    save_classifier(model, folder / MODEL_FILE, "resnet8-s2-w16", CLASSES)
    names = write_trained(folder, EPOCHS, val_clean=float(rng.uniform(0.5, 0.9)))
    return [*names, MODEL_FILE]


def make_store(folder: Path) -> Path:
    """Make up the store; returns the folder of the report's job."""
    store, rng = Store(folder), np.random.default_rng(SEED)
    counts = {"train": 16, "val": 16, "test": 16}
    facts = {"classes": CLASSES, "mean": [0.5] * 3, "std": [0.2] * 3, "shape": [3, 32, 32]}
    store.add("dataset", "made-up", {}, {}, write_data, {**facts, "counts": counts})
    data = {"dataset": "dataset/made-up"}
    store.add("teacher", "t", {"model": "r8", "device": "cpu"}, data, write_trained, {"epochs": 2})
    store.add("discretizer", "vq", {}, data, write_quantiser, Q_FACTS)
    made_from = {**data, "teacher": "teacher/t", "discretizer": "discretizer/vq"}
    store.add("bank", "dad", {}, made_from, write_bank, BANK_FACTS)
    recipe = {"epochs": EPOCHS, "batch": 8}
    spec = {"model": "resnet8-s2-w16", "recipe": recipe, "device": "cpu", "objective": {"kd": {}}}
    for number in range(STUDENTS):
        source = {"bank": "bank/dad"} if number < WITH_BANK else {"teachers.teacher": "teacher/t"}
        name = f"s{number:02d}-0"
        store.add("student", name, spec, {**data, **source}, lambda at: write_student(at, rng))
        inputs = {**data, "model": f"student/{name}"}
        store.add("evaluation", f"{name}.main", {}, inputs, lambda at: draw_outcomes(at, rng))
    return write_job(store)


def write_job(store: Store) -> Path:
    """Write the report's ``spec.json`` and return its folder."""
    job = store.job()
    inputs = {ref: ref for ref in store.inputs}
    known = {name: getattr(job, name) for name in ("kind", "name", "key", "spec", "code", "run")}
    write_json(job.folder / "spec.json", {**known, "inputs": inputs})
    return job.folder


def main(folder: Path) -> None:
    """Make the store, render its report and print what that took."""
    job_folder = make_store(folder)
    made = subprocess.run(
        [sys.executable, "-c", RENDER, str(job_folder)], check=True, capture_output=True, text=True
    )
    measured = json.loads(made.stdout.splitlines()[-1])
    for name in ("report.html", "outcomes.parquet", "results.csv"):
        measured[f"{name}, MB"] = round((job_folder / name).stat().st_size / 1e6, 2)
    for name, value in measured.items():
        print(f"{name:24} {value}")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
