"""Training steps and a bank, each beside a textbook form and as a share of the card's floor.

The floor of a work is the FLOP of its counted passes over the measured bf16 matrix rate.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from benchmarks.gpu import card
from benchmarks.gpu.record import FIGURES, Report
from benchmarks.textbook import dad_bank
from benchmarks.timing import divide, show, summarise, take_turns
from benchmarks.training_steps import (
    OneBatch,
    Workload,
    count_passes,
    make_workload,
    prepare_own_step,
    prepare_textbook_step,
)
from pipeline.banks.builder import BankBuilder
from pipeline.banks.networks import form_discretizer, form_teacher
from pipeline.config.recipe import Recipe
from pipeline.core.batch import Batch, Roles
from pipeline.core.images import scale_to_unit_range
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.data.splits import Split
from pipeline.models.classifier import initialise_classifier
from pipeline.models.vqgan import VQGAN, VQGANArchitecture
from pipeline.objectives import dad, natural
from pipeline.planning.flops import measure_classifier, measure_vqgan
from pipeline.store.artefact import Job
from pipeline.training.loop import take_optimizer_step
from pipeline.training.state import CheckpointSettings, TrainingState

SMALL_SCALE = 0.1  # below it the networks are small, too
CLASSES = 10
FAST = {  # all that the recipes offer for speed, but TF32, which means nothing beside bf16
    "lr": 1e-3,
    "schedule": "constant",
    "bf16": "both",
    "channels_last": True,
    "compile": "graph",
    "teacher_form": "folded",
}


@dataclass(frozen=True)
class Networks:
    """The networks that are measured, and the side of DAD's images in pixels."""

    student: str = "resnet18"
    teacher: str = "wrn-34-10"
    dad_student: str = "timm/resnet50"
    dad_teacher: str = "timm/vit_large_patch14_clip_224"
    side: int = 224
    quantizer: VQGANArchitecture = VQGANArchitecture()


SMALL = Networks(
    student="resnet8-s2-w8",
    teacher="resnet8-s2-w8",
    dad_student="resnet8-s2-w8",
    dad_teacher="resnet8-s2-w8",
    side=32,
    quantizer=VQGANArchitecture(32, (1, 1), 1, (), 4, 4, 64, 32),
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
        self, name: str, images: int, flop: float, ours: list[float], plain: list[float]
    ) -> None:
        """A row: images a second, the floor over the time, and the textbook's time over ours."""
        rates = [images / s for s in ours]
        share = [100 * images * flop / self.rate / s for s in ours]
        ratio = divide(plain, ours)
        row = [name, show(rates, 0), show(share, 0, " %"), show(ratio), str(len(ours))]
        data = {"images/s": rates, "share": share, "textbook": ratio}
        summary = {key: summarise(values) for key, values in data.items()}
        self.report.add_row(FIGURES, row, name, summary)


def measure_all(report: Report, device: str, scale: float, deadline: float, rounds: int) -> None:
    """The card and every figure, until the time is over."""
    rate = card.measure_card(report, device, scale)
    measure = Measure(report, device, scale, rate, deadline, rounds)
    for figure in (
        lambda: measure_step(measure, "adaad", 512),
        lambda: measure_step(measure, "adaad", 128),
        lambda: measure_step(measure, "pgd_at", 512),
        lambda: measure_bank(measure),
        lambda: measure_dad(measure),
        lambda: measure_step(measure, "rslad", 512),
        lambda: measure_step(measure, "darwin", 512),
    ):
        if time.monotonic() >= deadline:
            report.add_note("The time was over before all figures were measured.")
            return
        figure()
        if device == "cuda":
            torch.cuda.empty_cache()


def measure_step(measure: Measure, method: str, batch: int) -> None:
    """A step of a method, with all that is fast, beside a textbook step in single precision."""
    networks = measure.networks
    workload = make_workload(
        networks.student, networks.teacher, measure.size(batch), measure.device
    )
    images = len(workload.x)
    recipe = Recipe(batch=images, **FAST)
    with TemporaryDirectory() as folder:
        works = {
            "ours": prepare_own_step(workload, method, Path(folder), recipe),
            "textbook": prepare_textbook_step(workload, method),
        }
        seconds = measure.take_turns(works)
    name = f"{method}, {networks.student}" + (
        f" ← {networks.teacher}" if count_passes(method)[1] else ""
    )
    flop = count_step_flop(workload, method)
    measure.add(f"{name}, batch {images}", images, flop, seconds["ours"], seconds["textbook"])


def count_step_flop(workload: Workload, method: str) -> float:
    """FLOP of the counted passes of one image."""
    own, taught = count_passes(method)
    shape = tuple(workload.x.shape[1:])
    student = measure_classifier(workload.student, shape, CLASSES)[0]
    return own * student + taught * measure_classifier(workload.teacher, shape, CLASSES)[0]


def make_builder(measure: Measure, count: int) -> BankBuilder:
    """A builder of a bank in bf16 whose networks have random weights and whose images are noise."""
    networks, device = measure.networks, measure.device
    spec = {
        "seed": 0,
        "device": device,
        "attack": {"norm": "l2", "eps": 0.1, "step": 0.1, "steps": 1},
        "reject": "drop",
        "encoding": "jpeg",
        "shards": 1,
        "block": count,
        "bf16": True,
        "teacher_form": "folded",
    }
    builder = BankBuilder(Job(Path(), "bank", "b", "b" * 12, spec, {"discretizer": Path()}, {}))
    shape = (count, 3, networks.side, networks.side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    labels = torch.arange(count) % CLASSES
    vars(builder)["split"] = Split(images, labels)
    teacher, quantizer = make_bank_networks(measure)
    vars(builder)["teacher"] = form_teacher(teacher, builder.spec)
    vars(builder)["discretizer"] = form_discretizer(quantizer, builder.spec)
    return builder


def make_bank_networks(measure: Measure) -> tuple[nn.Module, VQGAN]:
    """A bank's teacher and discretizer of random weights, in single precision."""
    networks, device = measure.networks, measure.device
    teacher = initialise_classifier(networks.dad_teacher, CLASSES, (0.5,) * 3, (0.25,) * 3, 0)
    made = teacher.to(device).eval(), VQGAN(networks.quantizer).to(device).eval()
    return made[0].requires_grad_(False), made[1].requires_grad_(False)


def measure_bank(measure: Measure) -> None:
    """A block of a bank in bf16, encoded as JPEG, beside a plain fp32 loop that encodes nothing."""
    networks, count = measure.networks, measure.size(128)
    builder = make_builder(measure, count)
    x = scale_to_unit_range(builder.split.images.to(measure.device))
    y = builder.split.labels.to(measure.device)
    teacher, quantizer = make_bank_networks(measure)
    works = {
        "ours": lambda: builder.build_block(range(count), False),
        "textbook": lambda: dad_bank.make_samples(quantizer, teacher, x, y),
    }
    seconds = measure.take_turns(works)
    shape = (3, networks.side, networks.side)
    forward = measure_classifier(networks.dad_teacher, shape, CLASSES)[0]
    encoder, decoder, _ = measure_vqgan(networks.quantizer, networks.side)
    flop = 2 * encoder + 2 * decoder + 4 * forward
    name = f"bank, {networks.dad_teacher} and VQGAN, {networks.side} px, block {count}"
    measure.add(name, count, flop, seconds["ours"], seconds["textbook"])


def measure_dad(measure: Measure) -> None:
    """A DAD step on stored fields, and the share of a step that waits for data.

    Images are in memory; «textbook» is a natural step, so its ratio is the inverse of DAD's cost.
    """
    networks, count = measure.networks, measure.size(128)
    workload = make_workload(networks.dad_student, networks.dad_student, count, measure.device)
    side = networks.side
    images = torch.randint(0, 256, (4 * count, 3, side, side), dtype=torch.uint8)
    schedule = BatchSchedule(10**6, count, 0, "crop_flip", measure.device)
    source = DatasetSource(images, torch.arange(4 * count) % CLASSES, schedule)
    x = scale_to_unit_range(images[:count].to(measure.device))
    recipe = Recipe(batch=count, **FAST)
    with TemporaryDirectory() as folder:
        place = CheckpointSettings(Path(folder), measure.device)
        own = replace(workload, x=x, y=workload.y)
        trainings = {
            name: TrainingState(
                Roles(own.build(own.student, 0)), objective, OneBatch(own), recipe, place, None
            )
            for name, objective in (("natural", natural.Objective()), ("dad", dad.Objective()))
        }
        waiting: list[float] = []
        stream = iterate_endlessly(source)
        clock = card.make_clock(measure.device)

        def step(name: str) -> None:
            start = time.perf_counter()
            batch = next(stream)
            loaded = time.perf_counter()
            batch = add_stored_fields(batch) if name == "dad" else batch
            take_optimizer_step(trainings[name], batch)
            if name == "dad":
                waiting.append(100 * (loaded - start) / (clock() - start))

        seconds = measure.take_turns({name: lambda name=name: step(name) for name in trainings})
    shape = (3, side, side)
    flop = 6 * measure_classifier(networks.dad_student, shape, CLASSES)[0]
    name = f"dad step, {networks.dad_student}, {side} px, batch {count}; textbook is a natural step"
    measure.add(name, count, flop, seconds["dad"], seconds["natural"])
    kept = waiting[-measure.rounds :]
    row = [f"waiting for data in the dad step: {show(kept, 1, ' %')} of its time", *4 * ["–"]]
    measure.report.add_row(FIGURES, row, "waiting", summarise(kept))


def iterate_endlessly(source: DatasetSource) -> Iterator[Batch]:
    """Batches of one epoch after the other."""
    epoch = 0
    while True:
        yield from source.iterate_batches(epoch, 0, Roles(nn.Identity()))
        epoch += 1


def add_stored_fields(batch: Batch) -> Batch:
    """The batch with the fields of a bank."""
    logits = torch.zeros(len(batch.x), CLASSES, device=batch.x.device)
    stored = {"x_adv": batch.x.flip(0), "y_adv": batch.y.flip(0)}
    return replace(batch, stored={**stored, "t_clean": logits, "t_adv": logits})
