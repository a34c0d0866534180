"""Sources built on others: a second data set in every batch, and batches without labels."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache

import torch
from torch import Tensor

from pipeline.core.batch import Batch, Roles
from pipeline.core.mixup import mix
from pipeline.data.batches import BatchSchedule, BatchSource, DatasetSource, RowIndex

REVISION = 1


@lru_cache(maxsize=4)
def get_permutation(
    schedule: BatchSchedule, seed_name: str, row_count: int, pass_number: int
) -> Tensor:
    """The order of the rows in pass ``pass_number``."""
    return schedule.draw_permutation(row_count, pass_number, seed_name)


def draw_streamed_rows(
    schedule: BatchSchedule, seed_name: str, row_count: int, start: int, count: int
) -> Tensor:
    """Rows (count,) from position ``start`` of an endless sequence of permutations."""
    turns = range(start // row_count, (start + count - 1) // row_count + 1)
    order = torch.cat([get_permutation(schedule, seed_name, row_count, turn) for turn in turns])
    first = start - turns.start * row_count
    return order[first : first + count]


def count_added_images(share: float, batch: int) -> int:
    """How many images of a batch come from the second data set."""
    return round(share * batch)


@dataclass
class MixedSource:
    """A data set's batches, with ``share`` of each batch from a second data set (generated images).

    An epoch has as many steps as without the second set, so a recipe means the same number of
    updates. Each set is read in permutations that continue across epochs. Both are augmented
    alike, and their positions in a batch are random. ``Batch.index`` counts the rows of the second
    set after those of the first.
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

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""
        schedule, base = self.base.schedule, self.base
        more = count_added_images(self.share, schedule.batch)
        for step in range(start, self.steps):
            rng, number = schedule.make_step_rng(epoch, step), epoch * self.steps + step
            own = schedule.batch - more
            drawn = (
                draw_streamed_rows(schedule, "order", len(base.images), number * own, own),
                draw_streamed_rows(schedule, "extra", len(self.images), number * more, more),
            )
            rows, extra = (RowIndex.from_host(part, schedule.device) for part in drawn)
            place = torch.randperm(schedule.batch, generator=rng, device=schedule.device)
            images = torch.cat([rows.select(base.images), extra.select(self.images)])[place]
            labels = torch.cat([base.labels[rows.rows], self.labels[extra.rows]])[place]
            x, y = mix(schedule.augment_images(images, rng), labels, schedule.mixing, rng)
            yield Batch(
                x=x,
                y=y,
                index=torch.cat([rows.rows, len(base.images) + extra.rows])[place],
                stored={},
                progress=schedule.compute_progress(epoch, step, self.steps),
                epoch=epoch,
                rng=rng,
            )

    def state_dict(self) -> dict:
        """An empty dict: every draw is named by epoch and step."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Does nothing: there is no state."""


@dataclass
class UnlabelledSource:
    """A source's batches without labels (``y`` is None).

    It serves data sets of other classes than the student's: no objective can read their labels.
    """

    source: BatchSource
    steps: int = field(init=False)

    def __post_init__(self):
        self.steps = self.source.steps

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""
        for batch in self.source.iterate_batches(epoch, start, roles):
            yield replace(batch, y=None)

    def state_dict(self) -> dict:
        """The state of the inner source."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict) -> None:
        """Restore the state of the inner source."""
        self.source.load_state_dict(state)
