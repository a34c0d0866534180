"""A training step of six methods beside a textbook step: `python -m benchmarks.training_steps`.

Ours is the loop's own step in the middle of a training, loading left out. The textbook steps are in
`benchmarks/textbook`. The floor is the measured time of one forward times the passes that are
counted for the objective: a forward, a gradient of the input and a gradient of the weights are a
pass each.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks.textbook import adaad, darwin, derd, pgd_at, rslad, trades
from benchmarks.timing import (
    Seconds,
    describe_run,
    divide,
    format_profile,
    format_table,
    parse_settings,
    show,
    summarise,
    take_turns,
    write_result,
)
from pipeline.config.recipe import Recipe
from pipeline.core.batch import Batch, Roles
from pipeline.models.classifier import initialise_classifier
from pipeline.models.frozen_forms import form_teacher
from pipeline.planning.step_cost import PassCounter
from pipeline.schema import make_plugin
from pipeline.training.loop import FIRST_BATCHES, check_watched_steps, take_optimizer_step
from pipeline.training.state import CheckpointSettings, TrainingState

CLASSES = 10
TEACHERS = {  # method -> its teachers' roles
    "pgd_at": (),
    "trades": (),
    "rslad": ("teacher",),
    "adaad": ("teacher",),
    "darwin": ("teacher",),
    "derd": ("natural", "robust"),
}


@dataclass(frozen=True)
class Workload:
    """What all steps work on: names of the networks, one batch, the device."""

    student: str
    teacher: str
    x: Tensor
    y: Tensor

    def build(self, name: str, seed: int) -> nn.Module:
        """A network of random weights."""
        network = initialise_classifier(name, CLASSES, (0.5,) * 3, (0.25,) * 3, seed)
        return network.to(self.x.device)

    def build_teachers(self, method: str) -> dict[str, nn.Module]:
        """The method's teachers, frozen, by role."""
        roles = enumerate(TEACHERS[method], 1)
        return {
            role: self.build(self.teacher, seed).eval().requires_grad_(False)
            for seed, role in roles
        }


@dataclass(frozen=True)
class OneBatch:
    """A source that has one batch and gives it again and again."""

    workload: Workload
    steps: int = 1

    def make_batch(self) -> Batch:
        """The batch, with a generator of its own."""
        x, y = self.workload.x, self.workload.y
        rng = torch.Generator(x.device).manual_seed(0)
        return Batch(x, y, torch.arange(len(x), device=x.device), {}, 0.5, 0, rng)

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """The batch, once."""
        yield self.make_batch()

    def state_dict(self) -> dict:
        """Nothing."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Does nothing."""


def make_workload(student: str, teacher: str, batch: int, device: str = "cpu") -> Workload:
    """Random images and labels, and the names of the networks."""
    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(batch, 3, 32, 32, generator=rng), torch.arange(batch) % CLASSES
    return Workload(student, teacher, x.to(device), y.to(device))


def prepare_own_step(
    workload: Workload, method: str, folder: Path, recipe: Recipe
) -> Callable[[], None]:
    """One step of the training loop, by `take_middle_step`."""
    objective = make_plugin("objectives", "Objective", method, {})
    roles = Roles(workload.build(workload.student, 0), workload.build_teachers(method))
    if recipe.teacher_form == "folded":
        rounds_all = recipe.bf16 == "both"
        teachers = {
            role: form_teacher(teacher, role, holds_bf16=rounds_all)[0]
            for role, teacher in roles.teachers.items()
        }
        roles = replace(roles, teachers=teachers)
    place = CheckpointSettings(folder, workload.x.device.type)
    source = OneBatch(workload)
    training = TrainingState(roles, objective, source, recipe, place, None)
    return lambda: take_middle_step(training, source.make_batch())


def take_middle_step(training: TrainingState, batch: Batch) -> None:
    """One step as the loop takes it after the first batches, whose gradients it measures.

    As in the loop, the host looks now and then whether the terms were finite.
    """
    training.step = max(training.step, FIRST_BATCHES)
    take_optimizer_step(training, batch)
    training.step += 1
    if training.watch is not None and training.watch.is_due():
        check_watched_steps(training)


def prepare_textbook_step(workload: Workload, method: str) -> Callable[[], None]:
    """One step of the textbook form."""
    x, y = workload.x, workload.y
    student, teachers = workload.build(workload.student, 0), workload.build_teachers(method)

    def sgd(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1e-3, momentum=0.9, weight_decay=5e-4)

    if method == "darwin":
        second = darwin.add_second_branch(student)
        optimizer = sgd(darwin.list_parameters(student, second))
        return lambda: darwin.step(student, second, teachers["teacher"], optimizer, x, y)
    optimizer = sgd(list(student.parameters()))
    if method == "derd":
        return lambda: derd.step(student, teachers["natural"], teachers["robust"], optimizer, x)
    if method in ("pgd_at", "trades"):
        plain = {"pgd_at": pgd_at, "trades": trades}[method]
        return lambda: plain.step(student, optimizer, x, y)
    taught = {"rslad": rslad, "adaad": adaad}[method]
    return lambda: taught.step(student, teachers["teacher"], optimizer, x, y)


def prepare_forward(workload: Workload, name: str) -> Callable[[], Tensor]:
    """One forward of a network in training mode, its graph kept."""
    network = workload.build(name, 0).train()
    return lambda: network(workload.x)


def count_passes(method: str) -> tuple[float, float]:
    """Passes of the student and of all teachers in one step."""
    objective = make_plugin("objectives", "Objective", method, {})
    found = PassCounter(TEACHERS[method]).measure_step(objective, ())
    return found.student, sum(found.teachers.values())


def compute_floor(method: str, seconds: Seconds) -> list[float]:
    """Forward time times passes, in each round."""
    own, taught = count_passes(method)
    forwards = zip(
        seconds["forward of the student"], seconds["forward of the teacher"], strict=True
    )
    return [own * f_s + taught * f_t for f_s, f_t in forwards]


def build_works(
    workload: Workload, methods: tuple[str, ...], folder: Path
) -> dict[str, Callable[[], object]]:
    """All steps and the two forwards, by name."""
    common = {"batch": len(workload.x), "lr": 1e-3, "schedule": "constant"}
    works: dict[str, Callable[[], object]] = {
        "forward of the student": prepare_forward(workload, workload.student),
        "forward of the teacher": prepare_forward(workload, workload.teacher),
    }
    for method in methods:
        for bf16 in ("none", "both"):
            recipe = Recipe(bf16=bf16, channels_last=bf16 == "both", **common)
            works[f"{method}, {bf16}"] = prepare_own_step(workload, method, folder, recipe)
        works[f"{method}, textbook"] = prepare_textbook_step(workload, method)
    return works


def measure(workload: Workload, rounds: int, methods: tuple[str, ...], folder: Path) -> Seconds:
    """Seconds of all steps and of the two forwards."""
    return take_turns(build_works(workload, methods, folder), rounds)


def format_slower_steps(workload: Workload, data: dict, folder: Path) -> str:
    """Where the time goes in each step of ours that takes longer than the textbook's, and there."""
    slower = tuple(m for m, found in data.items() if found["textbook"]["median"] < 1)
    works, text = build_works(workload, slower, folder), ""
    for method in slower:
        for form, words in (("none", "ours"), ("textbook", "textbook")):
            text += f"\n{method}, {words}:\n\n{format_profile(works[f'{method}, {form}'])}\n"
    return text or "\nNo step takes longer than the textbook's.\n"


def summarise_steps(seconds: Seconds) -> tuple[list[list[str]], dict]:
    """A row of the table for each method, and its ratios as data."""
    rows, data = [], {}
    for method in TEACHERS:
        plain, ours = seconds[f"{method}, textbook"], seconds[f"{method}, none"]
        floor, half = compute_floor(method, seconds), seconds[f"{method}, both"]
        own, taught = count_passes(method)
        found = {
            "textbook": divide(plain, ours),
            "textbook, bf16": divide(plain, half),
            "floor": divide(ours, floor),
        }
        data[method] = {name: summarise(values) for name, values in found.items()}
        passes = f"{own:.0f} F_S + {taught:.0f} F_T"
        shown = [show(values) for values in found.values()]
        rows.append([method, passes, show([1000 * s for s in ours], 0), *shown])
    return rows, data


def main() -> None:
    """Measure and write `training-steps.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    network = "resnet8-s2-w32"
    workload = make_workload(network, network, settings.scale(64))
    with TemporaryDirectory() as folder:
        seconds = measure(workload, settings.rounds, tuple(TEACHERS), Path(folder))
        rows, data = summarise_steps(seconds)
        slower = format_slower_steps(workload, data, Path(folder))
    head = ["method", "passes", "CPU ms a step, fp32", "textbook / ours", "textbook / ours in bf16"]
    text = f"""# A training step beside a textbook step and beside its floor

`python -m benchmarks.training_steps`: student and teachers are {network}, batch
{len(workload.x)} at 32 px, ten steps in each attack, one thread, loading left out.
{describe_run(settings)}

{format_table([*head, "ours / floor"], rows)}

The textbook steps (`benchmarks/textbook`) are in single precision, as papers' code is. Passes are
counted in autograd; the floor is passes times the time of a forward in the same round.

## Where the time goes in steps that take longer than the textbook's
{slower}"""
    write_result(settings, "training-steps", text, data)


if __name__ == "__main__":
    main()
