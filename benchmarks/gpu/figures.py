"""Training steps and a bank, each beside a textbook form and as a share of the card's floor.

The floor of a work is the FLOP of its counted passes over the measured bf16 matrix rate. A figure
that misses its aim is followed by a profile of one step. A textbook form runs in the modes that
torch has by default, as papers' code does: TF32 in convolutions and not in products. Ours runs in
the modes that its recipe asks for.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.gpu import card
from benchmarks.gpu.record import FIGURES, Aim, Report
from benchmarks.timing import divide, show, summarise, take_turns
from benchmarks.training_steps import (
    Workload,
    count_passes,
    make_workload,
    prepare_own_step,
    prepare_textbook_step,
)
from pipeline.config.recipe import Recipe
from pipeline.planning.flops import measure_classifier
from pipeline.training.numeric_modes import set_numeric_modes

SMALL_SCALE = 0.1  # below it the networks are small, too
CLASSES = 10
FAST = {  # all that the recipes offer for speed, but TF32, which means nothing beside bf16
    "lr": 1e-3,
    "schedule": "constant",
    "bf16": "both",
    "channels_last": True,
    "compile": "graph",
    "teacher_form": "folded",
    "cudnn_benchmark": True,
}
PLAIN = {"lr": 1e-3}  # a recipe that asks for no mode
STEPS = (  # method, batch, aims: images a second, share of the floor in percent, textbook / ours
    ("adaad", 512, (Aim("share", 50), Aim("textbook", 2.5))),
    ("adaad", 128, ()),
    ("pgd_at", 512, (Aim("images/s", 10_000),)),
)
LATER_STEPS = (("rslad", 512, ()), ("darwin", 512, ()))
BATCH_AIM = 0.6  # images a second at batch 128, over those at batch 512


@dataclass(frozen=True)
class Networks:
    """The networks that are measured, and the side of DAD's images in pixels.

    The discretizer of `benchmarks.gpu.banks` goes with them.
    """

    student: str = "resnet18"
    teacher: str = "wrn-34-10"
    dad_student: str = "timm/resnet50"
    dad_teacher: str = "timm/vit_large_patch14_clip_224"
    side: int = 224


SMALL = Networks(
    student="resnet8-s2-w8",
    teacher="resnet8-s2-w8",
    dad_student="resnet8-s2-w8",
    dad_teacher="resnet8-s2-w8",
    side=32,
)


@dataclass(frozen=True)
class Measure:
    """What every figure shares: the networks, the sizes, the card's rate and the time's end."""

    report: Report
    device: str
    scale: float
    rate: float
    deadline: float
    rounds: int

    @property
    def networks(self) -> Networks:
        """The networks at this scale."""
        return Networks() if self.scale >= SMALL_SCALE else SMALL

    def size(self, full: int) -> int:
        """A batch at this scale."""
        return max(int(full * self.scale), 8)

    def take_turns(self, works: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
        """Seconds of each work in each round."""
        clock = card.make_clock(self.device)
        return take_turns(works, self.rounds, warm=min(3, self.rounds), clock=clock)

    def add(
        self,
        name: str,
        images: int,
        flop: float,
        seconds: tuple[list[float], list[float]],
        aims: Sequence[Aim] = (),
        step: Callable[[], object] | None = None,
    ) -> dict[str, dict[str, float]]:
        """A row: images a second, the floor over the time, and the textbook's time over ours.

        Args:
            flop: of one image.
            seconds: of each round, ours and the textbook's.
            aims: what the row should reach at full size.
            step: what is profiled if it does not.
        """
        ours, plain = seconds
        rates = [images / s for s in ours]
        share = [100 * images * flop / self.rate / s for s in ours]
        ratio = divide(plain, ours)
        data = {"images/s": rates, "share": share, "textbook": ratio}
        summary = {key: summarise(values) for key, values in data.items()}
        missed = [aim for aim in aims if not aim.is_reached(summary)]
        shown = ", ".join(f"{aim}: {'no' if aim in missed else 'yes'}" for aim in aims) or "–"
        row = [name, show(rates, 0), show(share, 0, " %"), show(ratio), str(len(ours)), shown]
        self.report.add_row(FIGURES, row, name, summary)
        if missed and step is not None:
            with self.report.attempt(f"profile of {name}"):
                self.report.add_profile(name, card.profile_kernels(step, self.device))
        return summary


def with_modes(recipe: dict, work: Callable[[], object]) -> Callable[[], None]:
    """A work in the modes of a recipe, which it sets anew in each turn."""

    def run() -> None:
        set_numeric_modes(recipe)
        work()

    return run


def with_defaults(work: Callable[[], object]) -> Callable[[], None]:
    """A work in the modes that torch has by default: of TF32, that of cuDNN alone."""

    def run() -> None:
        set_numeric_modes(PLAIN)
        torch.backends.cudnn.allow_tf32 = True
        work()

    return run


def measure_all(report: Report, device: str, scale: float, deadline: float, rounds: int) -> None:
    """The card and every figure, until the time is over."""
    rate = card.measure_card(report, device, scale)
    measure = Measure(report, device, scale, rate, deadline, rounds)
    works = {
        "steps": lambda: measure_steps(measure, STEPS),
        **list_bank_works(measure),
        "later steps": lambda: measure_steps(measure, LATER_STEPS),
    }
    for name, work in works.items():
        if time.monotonic() >= deadline:
            report.add_note("The time was over before all figures were measured.")
            return
        with report.attempt(name):
            work()
        with report.attempt(f"freeing the memory after {name}"):
            card.free_memory(device)


def list_bank_works(measure: Measure) -> dict[str, Callable[[], None]]:
    """The figures of DAD; none, with a note, where a package that they need is not installed."""
    try:
        from benchmarks.gpu import banks
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("pipeline", "benchmarks"):
            raise
        measure.report.add_note(f"No bank and no step of DAD: {error}.")
        return {}
    return {
        "bank as JPEG": lambda: banks.measure_bank(measure, "jpeg", [banks.BANK_AIM]),
        "bank as blocks": lambda: banks.measure_bank(measure, "blocks", []),
        "dad step": lambda: banks.measure_dad(measure),
    }


def measure_steps(measure: Measure, steps: Sequence[tuple[str, int, Sequence[Aim]]]) -> None:
    """A row for each step; and how the images a second of one method's batches compare."""
    rates: dict[tuple[str, int], float] = {}
    for method, batch, aims in steps:
        if time.monotonic() >= measure.deadline:
            return
        with measure.report.attempt(f"{method}, batch {batch}"):
            found = measure_step(measure, method, batch, aims)
            rates[method, batch] = found["images/s"]["median"]
    for method, batch in rates:
        if batch == 512 and (method, 128) in rates:
            ratio = rates[method, 128] / rates[method, 512]
            reached = "yes" if ratio >= BATCH_AIM else "no"
            row = [f"{method}, batch 128 / batch 512, images a second", f"{ratio:.2f}"]
            row += [*3 * ["–"], f"ratio ≥ {BATCH_AIM}: {reached}"]
            measure.report.add_row(FIGURES, row, f"{method} by batch", ratio)


def measure_step(measure: Measure, method: str, batch: int, aims: Sequence[Aim]) -> dict:
    """A step of a method, with all that is fast, beside a textbook step in single precision."""
    networks = measure.networks
    workload = make_workload(
        networks.student, networks.teacher, measure.size(batch), measure.device
    )
    images = len(workload.x)
    recipe = Recipe(batch=images, **FAST)
    name = f"{method}, {networks.student}" + (
        f" ← {networks.teacher}" if count_passes(method)[1] else ""
    )
    flop = count_step_flop(workload, method)
    with TemporaryDirectory() as folder:
        works = {
            "ours": with_modes(FAST, prepare_own_step(workload, method, Path(folder), recipe)),
            "textbook": with_defaults(prepare_textbook_step(workload, method)),
        }
        seconds = measure.take_turns(works)
        both = seconds["ours"], seconds["textbook"]
        return measure.add(f"{name}, batch {images}", images, flop, both, aims, works["ours"])


def count_step_flop(workload: Workload, method: str) -> float:
    """FLOP of the counted passes of one image."""
    own, taught = count_passes(method)
    shape = tuple(workload.x.shape[1:])
    student = measure_classifier(workload.student, shape, CLASSES)[0]
    return own * student + taught * measure_classifier(workload.teacher, shape, CLASSES)[0]
