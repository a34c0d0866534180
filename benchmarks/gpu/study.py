"""PGD-AT's teacher, then AdaAD, RSLAD and DARWIN, trained and attacked in the time that is left.

The pipeline's own stages make it, one after the other in this process, as Snakemake's jobs would.
How many epochs fit is computed from a few measured steps; every student has what its share of the
time affords, so the table compares methods at about equal time and not at equal epochs.
"""

import importlib
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.gpu import card
from benchmarks.gpu.pack import TEST_IMAGES, unpack
from benchmarks.gpu.record import STUDY, Report
from benchmarks.timing import take_turns
from benchmarks.training_steps import count_passes, make_workload, prepare_own_step
from pipeline.config.recipe import Recipe
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.store.artefact import (
    MANIFEST_FILE,
    STAGES_BY_KIND,
    open_artefact,
    read_job,
    write_manifest,
)
from pipeline.store.attempt_cost import record_attempt_cost, sum_attempt_costs
from pipeline.training.numeric_modes import set_numeric_modes

SHARES = {"robust": 0.22, "adaad": 0.16, "rslad": 0.12, "darwin": 0.18}  # of the time that is left
METHODS = {"robust": "pgd_at", "adaad": "adaad", "rslad": "rslad", "darwin": "darwin"}
BATCH, SMALL_SCALE, CALIBRATION_STEPS = 512, 0.1, 5
MOST_EPOCHS = 60


@dataclass(frozen=True)
class Size:
    """What the study trains on.

    Attributes:
        train: number of training images.
        attacked: number of test images that are attacked.
    """

    network: str
    batch: int
    train: int
    attacked: int


def run(report: Report, device: str, scale: float, images: Path | None, deadline: float) -> None:
    """Train and evaluate; whatever is finished is in the report when the time is over."""
    with TemporaryDirectory() as place:
        folder = Path(place)
        packed = folder / "images.npz"
        count = unpack(images, packed) if images is not None else write_noise(packed, scale)
        if images is None:
            report.add_note("The study's images are noise with a class's mean: no file was given.")
        network = "resnet18" if scale >= SMALL_SCALE else "resnet8-s2-w8"
        batch = max(int(BATCH * scale), 16)
        attacked = max(int(TEST_IMAGES * scale), 8)
        size = Size(network, batch, max(int(count * min(scale, 1)), 4 * batch), attacked)
        epochs = plan_epochs(size, device, deadline - time.monotonic())
        plan = make_plan_from_dict(write_experiment(folder, packed, size, device, epochs))
        write_job_files(plan)
        make_all(report, plan, epochs, device, deadline)


def write_noise(path: Path, scale: float) -> int:
    """A file of images around a mean of each class; returns the number of training images."""
    count = max(int(20_000 * scale), 256)
    rng = np.random.default_rng(0)
    labels = np.arange(count + TEST_IMAGES) % 10
    means = rng.integers(60, 196, (10, 3, 1, 1))
    noise = rng.normal(0, 40, (len(labels), 3, 32, 32))
    images = (means[labels] + noise).clip(0, 255).astype(np.uint8)
    np.savez(path, image=images, label=labels)
    return count


def make_recipe(batch: int) -> dict:
    """How all networks of the study are trained."""
    return {
        "batch": batch,
        "lr": 0.2,
        "schedule": "onecycle",
        "nesterov": True,
        "ema": 0.99,
        "augment": "crop_flip",
        "bf16": "both",
        "channels_last": True,
        "compile": "graph",
        "teacher_form": "folded",
        "cudnn_benchmark": True,
    }


def plan_epochs(size: Size, device: str, seconds: float) -> dict[str, int]:
    """The epochs of each model that its share of the time allows."""
    workload = make_workload(size.network, size.network, size.batch, device)
    with TemporaryDirectory() as folder:
        set_numeric_modes(make_recipe(size.batch))
        recipe = Recipe(**make_recipe(size.batch))
        step = prepare_own_step(workload, "pgd_at", Path(folder), recipe)
        clock = card.make_clock(device)
        found = take_turns({"step": step}, CALIBRATION_STEPS, warm=2, clock=clock)["step"]
    steps, passes = size.train // size.batch, sum(count_passes("pgd_at"))
    epochs = {}
    for name, share in SHARES.items():
        epoch = steps * min(found) * sum(count_passes(METHODS[name])) / passes
        epochs[name] = int(min(max(share * seconds / epoch, 1), MOST_EPOCHS))
    return epochs


def write_experiment(
    folder: Path, images: Path, size: Size, device: str, epochs: dict[str, int]
) -> dict:
    """The configuration of the study."""
    common = {"dataset": "cifar", "model": size.network, "recipe": "main"}
    source = {"npz": {"path": str(images), "test": TEST_IMAGES, "classes_of": "cifar10"}}
    methods = {"adaad": {}, "rslad": {"kd_scale": 1}, "darwin": {}}
    return {
        "store": str(folder / "store"),
        "seed": 0,
        "device": device,
        "run": {"data": str(folder)},
        "recipes": {"main": make_recipe(size.batch)},
        "datasets": {
            "cifar": {"source": source, "train": size.train, "val": 0, "test": size.attacked}
        },
        "teachers": {"robust": {**common, "objective": "pgd_at", "epochs": epochs["robust"]}},
        "students": {
            name: {**common, "teacher": "robust", "objective": {name: o}, "epochs": epochs[name]}
            for name, o in methods.items()
        },
        "suites": {
            "fast": {"models": "students", "attacks": ["clean", "pgd"]},
            "fast-teacher": {"models": "teachers", "attacks": ["clean", "pgd"]},
            "full": {"models": "students", "attacks": [{"autoattack": {"chunk": size.attacked}}]},
            "full-teacher": {
                "models": "teachers",
                "attacks": [{"autoattack": {"chunk": size.attacked}}],
            },
        },
    }


def sort_jobs(plan: Plan) -> list[str]:
    """Trainings and their cheap evaluations first, then AutoAttack."""
    refs = list(plan.artefacts)
    late = [ref for ref in refs if ".full" in plan.artefacts[ref].name]
    late.sort(key=lambda ref: not plan.artefacts[ref].name.endswith("-teacher"))
    return [ref for ref in refs if ref not in late] + late


def make_all(
    report: Report, plan: Plan, epochs: dict[str, int], device: str, deadline: float
) -> None:
    """Make artefact by artefact until the time is over; its model's row grows with each."""
    longest = 0.0
    for ref in sort_jobs(plan):
        left, entry = deadline - time.monotonic(), plan.artefacts[ref]
        is_late = ".full" in entry.name
        if left < (longest if is_late else 0):
            report.add_note(f"Not made, the time was over: {entry.kind} {entry.name}.")
            continue
        start, what = time.monotonic(), f"{entry.kind} {entry.name}"
        with report.attempt(what):
            try:
                make_artefact(plan, ref)
                model = entry.name.partition(".")[0].removesuffix("-0")
                if model in epochs:
                    add_model(report, plan, model, epochs[model])
            except (RetortError, ImportError) as error:
                report.add_note(f"Not made: {what} ({error}).")
        if is_late:
            longest = max(longest, time.monotonic() - start)
        with report.attempt(f"freeing the memory after {what}"):
            card.free_memory(device)


def make_artefact(plan: Plan, ref: str) -> None:
    """Run one stage in this process.

    Raises:
        RetortError: an input was not made, or what the stage raises.
    """
    job = read_job(plan.folder_path(ref))
    if missing := [n for n, folder in job.inputs.items() if not (folder / MANIFEST_FILE).exists()]:
        raise RetortError(f"{', '.join(missing)}: not made")
    set_numeric_modes(job.spec.get("recipe") or {})
    stage = importlib.import_module(f"pipeline.stages.{STAGES_BY_KIND[job.kind]}")
    with record_attempt_cost(job, "run"):
        write_manifest(job, stage.run(job))


def add_model(report: Report, plan: Plan, name: str, epochs: int) -> None:
    """A model's row: what of it was made so far."""
    kind, base, suffix = ("teacher", name, "-teacher")
    if name != "robust":
        kind, base, suffix = ("student", f"{name}-0", "")
    folder = plan.folder_path(plan.refs_by_name[kind, base])
    if not (folder / MANIFEST_FILE).exists():
        return
    accuracy = {}
    for suite in (f"fast{suffix}", f"full{suffix}"):
        place = plan.folder_path(plan.refs_by_name["evaluation", f"{base}.{suite}"])
        if (place / MANIFEST_FILE).exists():
            for found in open_artefact(place).manifest.facts["accuracy"]:
                accuracy[found["attack"]] = 100 * found["accuracy"]
    seconds = sum_attempt_costs(folder)["seconds"]
    shown = [f"{accuracy[a]:.1f}" if a in accuracy else "–" for a in ("clean", "pgd", "autoattack")]
    row = [base, str(epochs), f"{seconds:.0f}", *shown]
    report.add_row(STUDY, row, base, {"epochs": epochs, "seconds": seconds, **accuracy})
