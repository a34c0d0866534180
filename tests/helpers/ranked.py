"""Trainings that one process or several run alike.

`python -m tests.helpers.ranked <folder> <rank> <size>` is one of the processes.

Each case is fitted in double precision; what came out is saved, for tests to compare.
"""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import torch
import torch.distributed as dist
from PIL import Image
from torch import Tensor, nn

from pipeline.banks.batches import BankSource
from pipeline.config.recipe import Recipe
from pipeline.core import collectives
from pipeline.core.batch import Batch, Roles
from pipeline.core.mixup import MixSettings
from pipeline.core.seeding import make_generator
from pipeline.data.batches import BatchSchedule, BatchSource, DatasetSource
from pipeline.data.lazy_images import INDEX_SCHEMA, FileImages
from pipeline.data_free.generator_batches import GeneratorRecipe, GeneratorSource
from pipeline.data_free.generator_losses import derd
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.models.classifier import Classifier
from pipeline.models.generator import Generator, GeneratorSize
from pipeline.models.vqgan import VQGAN, ReconstructionObjective, VQGANArchitecture
from pipeline.schema import build_instance, list_options
from pipeline.training.gradient_matching import GradientMatching
from pipeline.training.loop import fit
from pipeline.training.state import CheckpointSettings
from pipeline.training.validation import ValidationSplit
from pipeline.training.vqgan_losses import AdversarialLoss, VQGANObjective, make_discriminator

CLASSES, ROWS = 5, 24
OPTIONS = {"steps": 2}  # of every objective that has such an option
SMALL = {"epochs": 1, "batch": 12, "lr": 0.05, "schedule": "constant", "augment": "crop_flip"}


@dataclass(frozen=True)
class Case:
    """One training: an objective by name, changes to the small recipe, where a rank is stopped.

    ``igdm`` is the weight of that term on top; 0 is none.
    """

    objective: str
    recipe: dict = field(default_factory=dict)
    stop: bool = False
    source: str = "held"
    igdm: float = 0.0


def cases() -> dict[str, Case]:
    """Every objective, and each thing that ranks do otherwise than one process."""
    found = {name: Case(name) for name in list_plugin_names("objectives")}
    return found | {
        "igdm": Case("adaad", igdm=20.0),
        "parts": Case("rslad", {"accumulate": 2, "clip_grad": 0.1, "ema": 0.5}),
        "chosen": Case("trades", {"epochs": 2, "select_on": "val", "mixup": 0.2}),
        "own statistics": Case("natural", {"sync_bn": False}),
        "own statistics of a teacher": Case("ciard", {"sync_bn": False}),
        "stopped": Case("natural", {"epochs": 2, "ema": 0.5}, stop=True),
        "unbroken": Case("natural", {"epochs": 2, "ema": 0.5}),
        "generated": Case("derd", {"batch": 8, "epochs": 2}, source="generated"),
        "files": Case("natural", {"augment": "resized_crop"}, source="files"),
    }


class Small(nn.Module):
    """Images (B,3,8,8) to logits (B,K): two convolutions, each with BatchNorm, and a linear head.

    Every BatchNorm is two exchanges a forward pass, so there are few.
    """

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 12, 3, 2, 1)
        self.norms = nn.ModuleList([nn.BatchNorm2d(8), nn.BatchNorm2d(12)])
        self.fc = nn.Linear(12, CLASSES)

    def features(self, x: Tensor) -> Tensor:
        """Penultimate features (B,12)."""
        for layer, norm in zip((self.first, self.second), self.norms, strict=True):
            x = norm(layer(x)).relu()
        return x.mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        """Logits of features."""
        return self.fc(features)


def network(seed: int) -> nn.Module:
    """A small network behind its normalisation, in double precision."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Classifier(Small(), [0.5] * 3, [0.25] * 3).double()


def teacher(seed: int) -> nn.Module:
    """One that is frozen and sure enough of itself to be followed."""
    made = network(seed).eval().requires_grad_(False)
    made.network.fc.weight.mul_(8)
    return made


def images(name: str, count: int) -> Tensor:
    """Random images (count,3,8,8) uint8."""
    return torch.randint(
        0, 256, (count, 3, 8, 8), generator=make_generator(name), dtype=torch.uint8
    )


@dataclass
class Interrupted:
    """A source in whose second epoch the process may ask itself to stop."""

    source: BatchSource
    here: bool

    def __post_init__(self):
        self.steps = self.source.steps

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """The source's own."""
        for step, batch in enumerate(self.source.iterate_batches(epoch, start, roles), start):
            if self.here and (epoch, step) == (1, 1):
                self.here = False
                os.kill(os.getpid(), signal.SIGTERM)
            yield batch

    def state_dict(self) -> dict:
        """The source's own."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Give it back."""
        self.source.load_state_dict(state)


class Levels(nn.Module):
    """A discretiser of eight grey levels."""

    def reconstruct(self, x: Tensor) -> Tensor:
        """Images in [0,1], rounded."""
        return (x * 7).round() / 7


def files(folder: Path) -> FileImages:
    """Images in files of their own."""
    root, places = folder / "files", []
    root.mkdir(parents=True, exist_ok=True)
    for row, image in enumerate(images("clean", ROWS)):
        path = root / f"{row}-{collectives.get_rank()}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        places.append((path.name, 0, path.stat().st_size, 0, None))
    columns = zip(*places, strict=True)
    arrays = [pa.array(c, kind) for c, kind in zip(columns, INDEX_SCHEMA.types, strict=True)]
    return FileImages(root, pa.table(arrays, schema=INDEX_SCHEMA), 8)


def source_of(case: Case, recipe: Recipe, needs: tuple[str, ...], folder: Path) -> BatchSource:
    """What a case learns from."""
    if case.source == "generated":
        own = GeneratorRecipe(recipe.epochs, derd.Loss(), 2, recipe.batch, replayed=4, pool=16)
        with torch.random.fork_rng():
            torch.manual_seed(5)
            return GeneratorSource(Generator(GeneratorSize(8, 8, 8)).double(), own, 0)
    mixing = MixSettings(recipe.mixup, recipe.cutmix, recipe.smoothing, CLASSES)
    drawn = {"rand_augment": recipe.rand_augment, "erase": recipe.erase, "mixing": mixing}
    plan = BatchSchedule(recipe.epochs, recipe.batch, 0, recipe.augment, **drawn)
    held = files(folder) if case.source == "files" else images("clean", ROWS)
    source: BatchSource = DatasetSource(held, torch.arange(ROWS) % CLASSES, plan)
    if "x_adv" in needs:
        rng = make_generator("outputs")
        outputs = torch.randn(2, ROWS, CLASSES, generator=rng).double()
        stored = {"x_adv": images("moved", ROWS), "row": torch.arange(ROWS)}
        stored |= {"t_clean": outputs[0], "t_adv": outputs[1]}
        source = BankSource(source, stored, "paired" in needs, None, "mixed_together" in needs)
    return source


def trained(case: Case, folder: Path, count: int) -> dict:
    """What a case leaves: the student's state, the history, what its objective learnt."""
    recipe = Recipe(**{**SMALL, **case.recipe, "gpus": count, **alone(count)})
    kind = load_plugin("objectives", case.objective).Objective
    options = {k: v for k, v in OPTIONS.items() if k in list_options(kind)}
    objective = build_instance(kind, options)
    if case.igdm:
        objective = GradientMatching(objective, case.igdm)
    needs = objective.needs()
    two = {"natural": teacher(1), "robust": teacher(2)}
    roles = Roles(network(0), two if "natural" in needs else {"teacher": teacher(1)}, Levels())
    source = source_of(case, recipe, needs, folder)
    if case.stop:
        source = Interrupted(source, collectives.get_rank() == count - 1)
    watched = ValidationSplit(
        images("val", 9), torch.arange(9) % CLASSES, recipe.select_on == "val", 0
    )
    return left(roles, objective, fitted(roles, objective, source, recipe, folder, watched))


def fitted(roles, objective, source, recipe, folder, watched=None) -> list[dict]:
    """The history of a training; empty on a rank that ends with it.

    Raises:
        SystemExit: the training was stopped.
    """
    try:
        return fit(roles, objective, source, recipe, CheckpointSettings(folder), watched).history
    except SystemExit as end:
        if end.code:
            raise
        return []


def left(roles: Roles, objective: object, history: list[dict]) -> dict:
    """What a training leaves."""
    learnt = objective.state_dict() if isinstance(objective, nn.Module) else {}
    teachers = {
        f"{role}.{name}": value
        for role, network in roles.teachers.items()
        for name, value in network.state_dict().items()
    }
    return {
        "student": roles.student.state_dict(),
        "history": history,
        "objective": learnt,
        "teachers": teachers,
    }


def alone(count: int) -> dict:
    """One process has no statistics but its own."""
    return {"sync_bn": True} if count == 1 else {}


def discretiser(folder: Path, count: int, adversary: AdversarialLoss | None) -> dict:
    """A VQGAN over its warm-up, its first codebook and a revival; against a discriminator."""
    shape = VQGANArchitecture(ch=32, ch_mult=(1,), n_codes=32, resolution=8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        roles = Roles(VQGAN(shape))
        discriminator = make_discriminator(3, 8, 1)
    objective: nn.Module = ReconstructionObjective(32, revive_every=2)
    if adversary is not None:
        objective = VQGANObjective(objective, None, adversary, discriminator)
    recipe = Recipe(**SMALL | {"momentum": 0.0}, gpus=count)
    source = source_of(Case(""), recipe, (), folder)
    history = fitted(roles, objective, source, recipe, folder)
    return left(roles, objective, history)


def every(folder: Path, rank: int, count: int) -> dict[str, dict]:
    """All cases by name."""
    found = {}
    for name, case in cases().items():
        for attempt in range(1 + case.stop):
            meet(folder / f"{name}-{attempt}", rank, count)
            try:
                found[name] = trained(case, folder / name, count)
            except SystemExit as stopped:
                found[f"{name} first"] = {"status": stopped.code}
    players = {"discretiser": None, "adversary": AdversarialLoss(0.5, 0.0, "adaptive")}
    for name, adversary in players.items():
        meet(folder / name, rank, count)
        found[name] = discretiser(folder / f"{name}-state", count, adversary)
    return found


def meet(place: Path, rank: int, count: int) -> None:
    """Join the other processes, if there are any, through a file."""
    if count > 1:
        dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=count)


if __name__ == "__main__":
    torch.set_num_threads(1)
    logging.disable(logging.INFO)
    folder, rank, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    torch.save(every(folder, rank, count), folder / f"rank-{rank}.pt")
