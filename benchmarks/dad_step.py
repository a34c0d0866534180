"""What a DAD student's step costs beside a standard step: passes, and time with data loading.

    OMP_NUM_THREADS=1 python benchmarks/dad_step.py [--model resnet18]

Makes a small bank in two forms (`cached`, and `replay` with two stored views) by the pipeline's
own stages. Then three students take turns in one process: natural, DAD on the cached bank, and DAD
on the replayed one. No teacher is loaded. Prints the median CPU time of a step and its ratio to the
natural step in the same run. Also in `make bench`.
"""

import argparse
import contextlib
import io
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import yaml

from pipeline.cli.main import main as stage
from pipeline.core.batch import Batch, Roles
from pipeline.data.dataset_artefact import open_dataset
from pipeline.models.classifier import initialise_classifier
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.planning.step_cost import PassCounter
from pipeline.stages.distill import make_objective, make_source
from pipeline.store.artefact import STAGES_BY_KIND, read_job
from pipeline.training.job_setup import make_checkpoint_settings, parse_recipe
from pipeline.training.loop import take_optimizer_step
from pipeline.training.state import TrainingState

ROOT = Path(__file__).parents[1]
ROUNDS, STEPS, WARM = 5, 4, 2
STUDENTS = {"natural": (), "cached": ("x_adv", "y_adv", "t_clean", "t_adv")}
STUDENTS["replay"] = STUDENTS["cached"]


def experiment(folder: Path, model: str) -> dict:
    """The tiny experiment's teacher and discretizer, two banks, three students of one model."""
    raw = yaml.safe_load((ROOT / "tests" / "helpers" / "tiny.yaml").read_text())
    kept = ("seed", "datasets", "discretizers")
    recipe = {"epochs": 40, "batch": 128, "lr": 0.1, "schedule": "onecycle"}
    common = {"dataset": "tiny", "model": model}
    bank = raw["banks"]["dad"]
    on_bank = {**common, "objective": "dad", "recipe": {**recipe, "augment": "none"}}
    return {
        **{name: raw[name] for name in kept},
        "store": str(folder / "store"),
        "run": {"data": str(ROOT / "data")},
        "teachers": {"clip": raw["teachers"]["clip"]},
        "banks": {"cached": bank, "replay": {**bank, "views": {"count": 2}}},
        "students": {
            "natural": {
                **common,
                "objective": "natural",
                "recipe": {**recipe, "augment": "crop_flip"},
            },
            "cached": {**on_bank, "bank": "cached"},
            "replay": {**on_bank, "bank": "replay"},
        },
    }


def made(plan: Plan) -> None:
    """Make every artefact that the students read."""
    write_job_files(plan)
    for ref, entry in plan.artefacts.items():
        if entry.kind in ("dataset", "teacher", "discretizer", "bank"):
            with contextlib.redirect_stderr(io.StringIO()):
                status = stage([STAGES_BY_KIND[entry.kind], str(plan.folder_path(ref))])
            assert status == 0, f"{entry.kind} {entry.name} failed"


def training_of(plan: Plan, name: str) -> TrainingState:
    """The state of a student's training before its first step."""
    job = read_job(plan.folder_path(plan.refs_by_name["student", f"{name}-0"]))
    data, recipe = open_dataset(job.inputs["dataset"]), parse_recipe(job)
    student = initialise_classifier(job.spec["model"], len(data.classes), data.mean, data.std, 0)
    source = make_source(job, data, recipe)
    return TrainingState(
        Roles(student), make_objective(job), source, recipe, make_checkpoint_settings(job), None
    )


def endless(training: TrainingState) -> Iterator[Batch]:
    """Yields the batches of one epoch after the other, without end."""
    for epoch in itertools.count():
        yield from training.source.iterate_batches(
            epoch % training.recipe.epochs, 0, training.roles
        )


def measured(trainings: dict[str, TrainingState]) -> dict[str, float]:
    """Median CPU seconds of a step of each student, with data loading; the students take turns."""
    streams = {name: endless(training) for name, training in trainings.items()}
    seconds: dict[str, list[float]] = {name: [] for name in trainings}
    for turn in range(WARM + ROUNDS):
        for name, training in trainings.items():
            began = time.process_time()
            for _ in range(STEPS):
                take_optimizer_step(training, next(streams[name]))
            if turn >= WARM:
                seconds[name].append((time.process_time() - began) / STEPS)
    return {name: statistics.median(found) for name, found in seconds.items()}


def main() -> None:
    """Make the banks, measure the steps and print the table."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--model", default="resnet8-s2-w32")
    model = options.parse_args().model
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan_from_dict(experiment(Path(folder), model))
        made(plan)
        trainings = {name: training_of(plan, name) for name in STUDENTS}
        seconds = measured(trainings)
    standard = PassCounter(()).measure_step(trainings["natural"].objective, ()).student
    print(f"{model}, batch 128, {ROUNDS} rounds of {STEPS} steps, one thread")
    print(f"{'student':10}{'F_S':>6}{'F_T':>6}{'passes':>9}{'CPU ms':>9}{'time':>8}")
    for name, stored in STUDENTS.items():
        passes = PassCounter(()).measure_step(trainings[name].objective, stored)
        taught = sum(passes.teachers.values())
        print(
            f"{name:10}{passes.student:6.0f}{taught:6.0f}{passes.student / standard:8.2f}x"
            f"{1000 * seconds[name]:9.1f}{seconds[name] / seconds['natural']:7.2f}x"
        )


if __name__ == "__main__":
    main()
