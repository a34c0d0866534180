"""Sources made of others: a second data set in every batch, and batches without labels."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.core.batch import Batch, Roles
from pipeline.core.mixup import mix
from pipeline.data.batches import DatasetSource, Schedule, Source

REVISION = 1


@lru_cache(maxsize=4)
def permutation(plan: Schedule, what: str, rows: int, turn: int) -> Tensor:
    """The order of the ``turn``-th pass over the rows."""
    return plan.order(rows, turn, what)


def stream(plan: Schedule, what: str, rows: int, start: int, count: int) -> Tensor:
    """Rows (count,) from place ``start`` on of an endless row of permutations."""
    turns = range(start // rows, (start + count - 1) // rows + 1)
    order = torch.cat([permutation(plan, what, rows, turn) for turn in turns])
    first = start - turns.start * rows
    return order[first : first + count].to(plan.device)


def added_images(share: float, batch: int) -> int:
    """How many images of a batch come from the second data set."""
    return round(share * batch)


@dataclass
class MixedSource:
    """A data set's batches, ``share`` of each from a second data set (of generated images).

    An epoch has as many steps as without the second one, so that a recipe means the same number
    of updates. Both sets are gone through in permutations that run on across epochs. Both are
    augmented alike and their places in a batch are random. Rows of the second set are counted
    after those of the first.
    """

    base: DatasetSource
    images: Tensor  # (M,C,H,W) uint8
    labels: Tensor  # (M,) int64
    share: float
    steps: int = field(init=False)

    def __post_init__(self):
        self.steps = self.base.steps
        self.images = self.images.to(self.base.schedule.device)
        self.labels = self.labels.to(self.base.schedule.device)

    def batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""
        plan, base = self.base.schedule, self.base
        more = added_images(self.share, plan.batch)
        for step in range(start, self.steps):
            rng, number = plan.step_rng(epoch, step), epoch * self.steps + step
            own = plan.batch - more
            rows = stream(plan, "order", len(base.images), number * own, own)
            extra = stream(plan, "extra", len(self.images), number * more, more)
            place = torch.randperm(plan.batch, generator=rng, device=plan.device)
            images = torch.cat([base.images[rows], self.images[extra]])[place]
            labels = torch.cat([base.labels[rows], self.labels[extra]])[place]
            x, y = mix(plan.view(images, rng), labels, plan.mixing, rng)
            yield Batch(
                x=x,
                y=y,
                index=torch.cat([rows, len(base.images) + extra])[place],
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


@dataclass
class Unlabelled:
    """A source's batches with ``y`` None, where its labels are of other classes than the student's.

    So no objective reads them by mistake.
    """

    source: Source
    steps: int = field(init=False)

    def __post_init__(self):
        self.steps = self.source.steps

    def batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""
        for batch in self.source.batches(epoch, start, roles):
            yield replace(batch, y=None)

    def state_dict(self) -> dict:
        """The source's own."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Give the source its own back."""
        self.source.load_state_dict(state)
