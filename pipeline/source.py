"""Where batches come from: sources know their length and name draws by (seed, epoch, step)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from pipeline.augment import augment, rand_augment
from pipeline.batch import Batch, Roles
from pipeline.errors import RetortError
from pipeline.mixing import Mixing, mix
from pipeline.rng import generator

REVISION = 1


class Source(Protocol):
    """A stream of batches that can start at any step and carry state of its own."""

    steps: int  # per epoch

    def batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""

    def state_dict(self) -> dict:
        """Whatever it has learnt or remembers; empty if nothing."""

    def load_state_dict(self, state: dict) -> None:
        """Take a saved state back."""


@dataclass(frozen=True)
class Schedule:
    """The counters every source shares: how long training is and what seeds it."""

    epochs: int
    batch: int
    seed: int
    augment: str = "none"
    device: str = "cpu"
    rand_augment: int = 0
    mixing: Mixing = Mixing()

    def order(self, rows: int, epoch: int, what: str = "order") -> Tensor:
        """A permutation of the rows for an epoch."""
        return torch.randperm(rows, generator=generator(self.seed, what, epoch))

    def step_rng(self, epoch: int, step: int) -> torch.Generator:
        """The step's own randomness."""
        return generator(self.seed, "step", epoch, step, device=self.device)

    def progress(self, epoch: int, step: int, steps: int) -> float:
        """From 0 at the first step towards 1."""
        return (epoch * steps + step) / (self.epochs * steps)

    @property
    def changes_pixels(self) -> bool:
        """Whether images are augmented or mixed, so that stored outputs are of other pixels."""
        return self.augment != "none" or self.rand_augment > 0 or self.mixing.mixes

    def view(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """uint8 images (B,C,H,W) as augmented floats in [0,1]."""
        if self.rand_augment:
            images = rand_augment(images, self.rand_augment, rng)
        return augment(pixels(images), self.augment, rng)


def pixels(images: Tensor) -> Tensor:
    """uint8 images (B,C,H,W) as floats in [0,1]."""
    return images.float() / 255


@dataclass
class DatasetSource:
    """Labelled images held as uint8 on the device, shuffled anew each epoch, rest dropped."""

    images: Tensor  # (N,C,H,W) uint8
    labels: Tensor  # (N,) int64
    schedule: Schedule
    steps: int = field(init=False)

    def __post_init__(self):
        self.steps = len(self.images) // self.schedule.batch
        if self.steps == 0:
            raise RetortError(
                f"recipe.batch: {self.schedule.batch} is more than the {len(self.images)} "
                "training images; make it smaller"
            )
        self.images = self.images.to(self.schedule.device)
        self.labels = self.labels.to(self.schedule.device)

    def batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""
        plan, size = self.schedule, self.schedule.batch
        order = plan.order(len(self.images), epoch)
        for step in range(start, self.steps):
            rng = plan.step_rng(epoch, step)
            rows = order[step * size : (step + 1) * size].to(plan.device)
            x, y = mix(plan.view(self.images[rows], rng), self.labels[rows], plan.mixing, rng)
            yield Batch(
                x=x,
                y=y,
                index=rows,
                stored={},
                progress=plan.progress(epoch, step, self.steps),
                epoch=epoch,
                rng=rng,
            )

    def state_dict(self) -> dict:
        """Nothing: every draw is named by epoch and step."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Nothing to take back."""
