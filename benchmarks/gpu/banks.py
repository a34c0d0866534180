"""DAD on the card: a bank as its stage builds it, and a student's step that reads one."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from benchmarks.gpu import card
from benchmarks.gpu.figures import (
    CLASSES,
    FAST,
    SMALL_SCALE,
    Measure,
    with_defaults,
    with_modes,
)
from benchmarks.gpu.record import FIGURES, Aim
from benchmarks.textbook import dad_bank
from benchmarks.timing import show, summarise
from benchmarks.training_steps import take_middle_step
from pipeline.banks.batches import BankSource, make_bank_source
from pipeline.banks.builder import BankBuilder
from pipeline.banks.networks import form_discretizer, form_teacher
from pipeline.config.recipe import Recipe
from pipeline.core.batch import Batch, Roles
from pipeline.core.devices.bf16_products import widen_products
from pipeline.core.images import scale_to_unit_range
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.data.splits import Split
from pipeline.interrupts import StopRequest
from pipeline.models.classifier import initialise_classifier
from pipeline.models.vqgan import VQGAN, VQGANArchitecture
from pipeline.objectives import dad, natural
from pipeline.planning.flops import measure_classifier, measure_vqgan
from pipeline.stages.build_bank import make_manifest, make_shard
from pipeline.store.artefact import Job, write_manifest
from pipeline.training.numeric_modes import set_numeric_modes
from pipeline.training.state import CheckpointSettings, TrainingState

FULL_QUANTIZER = VQGANArchitecture()
SMALL_QUANTIZER = VQGANArchitecture(32, (1, 1), 1, (), 4, 4, 64, 32)
BANK_BATCH = 128  # images in a block, and in a step
BLOCKS = 6  # of a bank, so that several are in flight
BANK_AIM = Aim("images/s", 380)
DAD_AIM = Aim("textbook", 1 / 2.1)  # of a natural step


def make_builder(measure: Measure, folder: Path, encoding: str) -> BankBuilder:
    """A builder of a bank in bf16 whose networks have random weights and whose images are noise.

    Labels are what the teacher says, so that it accepts most samples.
    """
    networks, device, count = measure.networks, measure.device, measure.size(BANK_BATCH)
    spec = {
        "seed": 0,
        "device": device,
        "attack": {"norm": "l2", "eps": 0.1, "step": 0.1, "steps": 1},
        "reject": "drop",
        "encoding": encoding,
        "shards": 1,
        "block": count,
        "bf16": True,
        "teacher_form": "folded",
    }
    job = Job(folder, "bank", "b", "b" * 12, spec, {"discretizer": Path()}, {})
    builder = BankBuilder(job)
    shape = (BLOCKS * count, 3, networks.side, networks.side)
    images = torch.randint(0, 256, shape, dtype=torch.uint8)
    teacher, quantizer = make_bank_networks(measure)
    vars(builder)["split"] = Split(images, guess_labels(teacher, images, count, device))
    vars(builder)["teacher"] = form_teacher(teacher, builder.spec)
    vars(builder)["discretizer"] = form_discretizer(quantizer, builder.spec)
    return builder


def make_bank_networks(measure: Measure) -> tuple[nn.Module, VQGAN]:
    """A bank's teacher and discretizer of random weights, in single precision."""
    networks, device = measure.networks, measure.device
    teacher = initialise_classifier(networks.dad_teacher, CLASSES, (0.5,) * 3, (0.25,) * 3, 0)
    quantizer = FULL_QUANTIZER if measure.scale >= SMALL_SCALE else SMALL_QUANTIZER
    made = teacher.to(device).eval(), VQGAN(quantizer).to(device).eval()
    return made[0].requires_grad_(False), made[1].requires_grad_(False)


@torch.no_grad()
def guess_labels(teacher: nn.Module, images: Tensor, batch: int, device: str) -> Tensor:
    """The classes (N,) that a teacher gives to images (N,C,H,W) uint8."""
    parts = images.split(batch)
    return torch.cat([teacher(scale_to_unit_range(x.to(device))).argmax(1).cpu() for x in parts])


def build_shard(builder: BankBuilder) -> None:
    """The bank's one shard, as its stage makes it."""
    with widen_products(builder.spec.device, builder.spec.bf16):
        make_shard(builder, 0, StopRequest())


def measure_bank(measure: Measure, encoding: str, aims: Sequence[Aim]) -> None:
    """A shard in bf16, its blocks in flight, encoded and written.

    As JPEG the launch of a block waits for the last one, as blocks it does not. The textbook, in
    single precision and torch's default modes, makes one block and encodes nothing.
    """
    networks, count = measure.networks, measure.size(BANK_BATCH)
    with TemporaryDirectory() as folder:
        builder = make_builder(measure, Path(folder), encoding)
        x = scale_to_unit_range(builder.split.images[:count].to(measure.device))
        y = builder.split.labels[:count].to(measure.device)
        teacher, quantizer = make_bank_networks(measure)
        works = {
            "ours": with_modes({}, lambda: build_shard(builder)),
            "textbook": with_defaults(lambda: dad_bank.make_samples(quantizer, teacher, x, y)),
        }
        seconds = measure.take_turns(works)
        shape = (3, networks.side, networks.side)
        forward = measure_classifier(networks.dad_teacher, shape, CLASSES)[0]
        encoder, decoder, _ = measure_vqgan(quantizer.architecture, networks.side)
        flop = 2 * encoder + 2 * decoder + 4 * forward
        name = f"bank as {encoding}, {networks.dad_teacher} and VQGAN, {networks.side} px"
        both = seconds["ours"], [BLOCKS * s for s in seconds["textbook"]]
        name = f"{name}, block {count}"
        measure.add(name, BLOCKS * count, flop, both, aims, works["ours"])


def measure_dad(measure: Measure) -> None:
    """A DAD step on a bank that was written and read, and its share that waits for data.

    «Textbook» is a natural step on the same images, so its ratio is the inverse of DAD's cost.
    """
    networks, count = measure.networks, measure.size(BANK_BATCH)
    with TemporaryDirectory() as place:
        folder = Path(place)
        trainings = make_trainings(measure, folder)
        streams = {name: iterate_endlessly(t.source) for name, t in trainings.items()}
        waiting: list[float] = []
        clock = card.make_clock(measure.device)

        def step(name: str) -> None:
            start = time.perf_counter()
            batch = next(streams[name])
            loaded = time.perf_counter()
            take_middle_step(trainings[name], batch)
            if name == "dad":
                waiting.append(100 * (loaded - start) / (clock() - start))

        seconds = measure.take_turns({name: lambda name=name: step(name) for name in trainings})
        shape = (3, networks.side, networks.side)
        flop = 6 * measure_classifier(networks.dad_student, shape, CLASSES)[0]
        name = f"dad step, {networks.dad_student}, {networks.side} px, batch {count}"
        both = seconds["dad"], seconds["natural"]
        measure.add(
            f"{name}; textbook is a natural step", count, flop, both, [DAD_AIM], lambda: step("dad")
        )
    kept = waiting[: measure.rounds + min(3, measure.rounds)][-measure.rounds :]
    row = [f"waiting for data in the dad step: {show(kept, 1, ' %')} of its time", *4 * ["–"]]
    reached = "yes" if summarise(kept)["median"] <= 3 else "no"
    measure.report.add_row(FIGURES, [*row, f"≤ 3 %: {reached}"], "waiting", summarise(kept))


def make_trainings(measure: Measure, folder: Path) -> dict[str, TrainingState]:
    """A natural training, and one of DAD on a bank that is written to the folder."""
    networks, count = measure.networks, measure.size(BANK_BATCH)
    builder = make_builder(measure, folder, "blocks")
    build_shard(builder)
    write_manifest(builder.job, make_manifest(builder.job))
    set_numeric_modes(FAST)
    recipe = Recipe(batch=count, **FAST)
    found = {}
    for name, objective in (("natural", natural.Objective()), ("dad", dad.Objective())):
        augment = "crop_flip" if name == "natural" else "none"
        schedule = BatchSchedule(10**6, count, 0, augment, measure.device)
        source: DatasetSource | BankSource = DatasetSource(
            builder.split.images, builder.split.labels, schedule
        )
        if name == "dad":
            source = make_bank_source(source, folder, objective.needs())
        student = initialise_classifier(
            networks.dad_student, CLASSES, (0.5,) * 3, (0.25,) * 3, 0
        ).to(measure.device)
        place = CheckpointSettings(folder / name, measure.device)
        found[name] = TrainingState(Roles(student), objective, source, recipe, place, None)
    return found


def iterate_endlessly(source: DatasetSource | BankSource) -> Iterator[Batch]:
    """Batches of one epoch after the other."""
    epoch = 0
    while True:
        yield from source.iterate_batches(epoch, 0, Roles(nn.Identity()))
        epoch += 1
