"""Batch sources: each knows its length and names its draws by (seed, epoch, step)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.core.augment import augment, erase, rand_augment
from pipeline.core.batch import Batch, Roles
from pipeline.core.collectives import all_gather, take_own_rows
from pipeline.core.devices.placement import copy_to_device
from pipeline.core.images import scale_to_unit_range
from pipeline.core.mixup import MixSettings, mix
from pipeline.core.seeding import make_generator
from pipeline.data import lazy_images
from pipeline.errors import RetortError

REVISION = 1


class BatchSource(Protocol):
    """A stream of batches that can start at any step and may have state."""

    steps: int  # per epoch

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""

    def state_dict(self) -> dict:
        """The state that the source has gathered; empty if there is none."""

    def load_state_dict(self, state: dict) -> None:
        """Restore a saved state."""


@dataclass(frozen=True)
class BatchSchedule:
    """Settings that every source shares: length of training, batch size, seed, augmentation."""

    epochs: int
    batch: int
    seed: int
    augment: str = "none"
    device: str = "cpu"
    rand_augment: int = 0
    erase: float = 0.0
    mixing: MixSettings = MixSettings()

    def draw_permutation(self, row_count: int, epoch: int, seed_name: str = "order") -> Tensor:
        """A permutation of the rows for an epoch."""
        return torch.randperm(row_count, generator=make_generator(self.seed, seed_name, epoch))

    def make_step_rng(self, epoch: int, step: int) -> torch.Generator:
        """The random generator of one step."""
        return make_generator(self.seed, "step", epoch, step, device=self.device)

    def compute_progress(self, epoch: int, step: int, steps: int) -> float:
        """The share of training that is done: 0 at the first step, below 1 at the last."""
        return (epoch * steps + step) / (self.epochs * steps)

    @property
    def changes_pixels(self) -> bool:
        """Whether images are augmented or mixed, so that stored outputs do not fit their pixels."""
        drawn = self.rand_augment or self.erase or self.mixing.mixes_images
        return self.augment != "none" or bool(drawn)

    def augment_images(self, images: Tensor, rng: torch.Generator) -> Tensor:
        """uint8 images (B,C,H,W) as augmented floats in [0,1]."""
        if self.rand_augment:
            images = rand_augment(images, self.rand_augment, rng)
        x = augment(scale_to_unit_range(images), self.augment, rng)
        return erase(x, self.erase, rng) if self.erase else x


@dataclass(frozen=True)
class RowIndex:
    """Rows (B,) int64 twice: on the device, for what lies there, and on the host, for files.

    So neither side waits for the other.
    """

    rows: Tensor
    host_rows: Tensor

    @classmethod
    def from_host(cls, rows: Tensor, device: torch.device | str) -> "RowIndex":
        """The index of rows that the host knows."""
        return cls(copy_to_device(rows, device), rows)

    def __getitem__(self, part: slice) -> "RowIndex":
        return RowIndex(self.rows[part], self.host_rows[part])

    def select(self, images: Any) -> Tensor:
        """These rows of images that lie on the device or are read from files (B,C,H,W)."""
        return images[self.rows if isinstance(images, Tensor) else self.host_rows]


@dataclass
class DatasetSource:
    """Batches of labelled images, shuffled anew each epoch; an incomplete last batch is dropped.

    Images are held as uint8 on the device, or are read from their files
    (`lazy_images.FileImages`) ahead of the steps that use them. In the second case each rank reads
    its own rows, and random resized crops are cut out of the complete image.
    """

    images: Tensor  # (N,C,H,W) uint8, in memory or FileImages
    labels: Tensor  # (N,) int64
    schedule: BatchSchedule
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

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""
        schedule, size = self.schedule, self.schedule.batch
        order = RowIndex.from_host(
            schedule.draw_permutation(len(self.images), epoch), schedule.device
        )
        parts = [order[i * size : (i + 1) * size] for i in range(start, self.steps)]
        batches = zip(parts, self.read_image_batches(parts, epoch), strict=True)
        for step, (part, images) in enumerate(batches, start):
            rows = part.rows
            rng = schedule.make_step_rng(epoch, step)
            x, y = mix(
                self.remaining_augmentation.augment_images(images, rng),
                self.labels[rows],
                schedule.mixing,
                rng,
            )
            yield Batch(
                x=x,
                y=y,
                index=rows,
                stored={},
                progress=schedule.compute_progress(epoch, step, self.steps),
                epoch=epoch,
                rng=rng,
            )

    @property
    def crops_while_decoding(self) -> bool:
        """Whether random crops are cut while files are decoded."""
        return self.schedule.augment == "resized_crop" and not isinstance(self.images, Tensor)

    @property
    def remaining_augmentation(self) -> BatchSchedule:
        """The schedule with the augmentation that is still to do after the images are read."""
        return (
            replace(self.schedule, augment="flip") if self.crops_while_decoding else self.schedule
        )

    def read_image_batches(self, parts: Sequence[RowIndex], epoch: int) -> Iterator[Tensor]:
        """The images (B,C,H,W) uint8 of each part."""
        if isinstance(self.images, Tensor):
            return (self.images[part.rows] for part in parts)

        def read_rows(rows: Tensor) -> Tensor:
            seed = self.schedule.seed
            return (
                self.images.read_random_crops(rows, seed, epoch)
                if self.crops_while_decoding
                else self.images[rows]
            )

        own = [take_own_rows(part.host_rows) for part in parts]
        return map(all_gather, lazy_images.prefetch_parts(read_rows, own))

    def state_dict(self) -> dict:
        """An empty dict: every draw is named by epoch and step."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Does nothing: there is no state."""
