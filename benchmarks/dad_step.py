"""What a DAD student's step costs beside a standard one: `python -m benchmarks.dad_step`.

Makes a small bank in two forms (`cached`, and `replay` with two stored views) by the pipeline's
own stages. Then four students take turns in one process: natural, DAD on the cached bank, DAD on
the replayed one (no teacher is loaded for either), and DAD online, whose samples are built for the
step. Loading and augmentation are in the time.
"""

import contextlib
import io
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import yaml

from benchmarks.timing import (
    ROOT,
    Seconds,
    describe_run,
    divide,
    format_table,
    parse_settings,
    show,
    summarise,
    take_turns,
    write_result,
)
from benchmarks.training_steps import take_middle_step
from pipeline.banks.builder import BankBuilder
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
from pipeline.training.state import TrainingState

MODEL, STEPS = "resnet8-s2-w32", 4
STUDENTS = {"natural": (), "cached": ("x_adv", "y_adv", "t_clean", "t_adv")}
STUDENTS["replay"] = STUDENTS["cached"]


def experiment(folder: Path, model: str, batch: int = 128) -> dict:
    """The tiny experiment's teacher and discretizer, two banks, three students of one model."""
    raw = yaml.safe_load((ROOT / "tests" / "helpers" / "tiny.yaml").read_text())
    kept = ("seed", "datasets", "discretizers")
    recipe = {"epochs": 40, "batch": batch, "lr": 0.1, "schedule": "onecycle"}
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


def made(plan: Plan, kinds: Sequence[str] = ("dataset", "teacher", "discretizer", "bank")) -> None:
    """Make every artefact of some kinds."""
    write_job_files(plan)
    for ref, entry in plan.artefacts.items():
        if entry.kind in kinds:
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


def make_step(training: TrainingState) -> Callable[[], None]:
    """Some steps of a student, their loading included."""
    stream = endless(training)

    def take_steps() -> None:
        for _ in range(STEPS):
            take_middle_step(training, next(stream))

    return take_steps


def make_online_step(training: TrainingState, builder: BankBuilder) -> Callable[[], None]:
    """A block of samples is built for each step, as where no bank is kept."""
    take_steps, count = make_step(training), training.recipe.batch

    def build_and_step() -> None:
        for _ in range(STEPS):
            builder.build_block(range(count), False)
        take_steps()

    return build_and_step


def measure(model: str, batch: int, rounds: int) -> tuple[Seconds, dict[str, list[float]]]:
    """Seconds of a step of each student; and the passes of each: F_S, F_T, and F_S over 3."""
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan_from_dict(experiment(Path(folder), model, batch))
        made(plan)
        trainings = {name: training_of(plan, name) for name in STUDENTS}
        works = {name: make_step(training) for name, training in trainings.items()}
        bank = read_job(plan.folder_path(plan.refs_by_name["bank", "cached"]))
        works["online"] = make_online_step(training_of(plan, "cached"), BankBuilder(bank))
        seconds = take_turns(works, rounds, warm=2)
    passes = {}
    for name, stored in STUDENTS.items():
        found = PassCounter(()).measure_step(trainings[name].objective, stored)
        passes[name] = [found.student, sum(found.teachers.values())]
    return seconds, passes


def main() -> None:
    """Measure and write `dad-step.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    model, batch = MODEL, settings.scale(128)
    seconds, passes = measure(model, batch, settings.rounds)
    rows, data = [], {}
    for name, found in seconds.items():
        ratio = divide(found, seconds["natural"])
        own = passes.get(name)
        counted = [f"{p:.0f}" for p in own] if own else ["6", "see below"]
        milliseconds = show([1000 * s / STEPS for s in found], 0)
        rows.append([f"dad, {name}" if name != "natural" else name, *counted, milliseconds])
        rows[-1].append(show(ratio))
        data[name] = summarise(ratio)
    text = f"""# A DAD student's step beside a standard one

`python -m benchmarks.dad_step`: {model}, batch {batch} at 32 px, one thread, loading and, for
`natural`, augmentation included; a round has four steps of each student.
{describe_run(settings)}

{format_table(["student", "F_S", "F_T", "CPU ms a step", "time, natural = 1"], rows)}

No teacher is loaded for the bank's students. `replay` has two stored views. `online` builds the
batch's samples in the step: two encoder and two decoder passes, one gradient of the teacher and two
of its forwards, here with a CLIP and a VQGAN that are small beside those of the paper; the larger
they are, the more a bank saves. Aim: at most 2.0 times a standard step in passes, 2.1 in time."""
    write_result(settings, "dad-step", text, data)


if __name__ == "__main__":
    main()
