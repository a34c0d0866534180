"""Batches of a data set with a bank's fields: stored outputs, samples, pairs, stored views.

The draws are those of `pipeline.data.batches`. This module is in no key: a change that moves
numbers here must raise REVISION in `pipeline.banks.shards`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.banks.reader import read_bank
from pipeline.banks.stored_views import ImageSet, StoredViews
from pipeline.core.batch import Batch, Roles
from pipeline.core.devices.placement import copy_to_device
from pipeline.core.images import scale_to_unit_range
from pipeline.core.mixup import mix
from pipeline.data import lazy_images
from pipeline.data.batches import DatasetSource, RowIndex

PAIRED_NEED = "paired"  # an objective's need: each sample beside its own image
JOINT_NEED = "mixed_together"  # an objective's need: Mixup sees both sides as one batch
OUTPUT_FIELDS = ("t_clean", "t_adv")

BatchIndices = tuple[RowIndex, RowIndex]  # a batch's source rows and its samples
BatchInputs = tuple[Tensor, Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class ViewReplay:
    """A bank's views, and the two image sets: clean images, and samples or None."""

    views: StoredViews
    image_sets: tuple[ImageSet, ImageSet | None]


@dataclass
class BankSource:
    """A data set's batches with a bank's fields.

    Clean images and their teacher outputs ``t_clean`` are aligned. Samples ``x_adv`` with labels
    ``y_adv`` and outputs ``t_adv`` come from a permutation of their own, because DAD's eq. 9 needs
    no pairs and some images have no sample. With ``is_paired`` a batch holds each sample's own
    image instead; then images without a sample are not used. An epoch always has the data set's
    steps.

    Batches carry stored outputs where the pixels are those that were stored, or stored views.
    Otherwise the teacher must run in training: images and samples are augmented, and each side is
    mixed by itself with the same lambda and box. With ``is_mixed_together`` both are mixed as one
    batch instead, samples after images: timm's reverse order then gives each image a sample.
    """

    dataset_source: DatasetSource
    stored_fields: Mapping[
        str, Tensor
    ]  # t_clean (N,K); x_adv (M,C,H,W) uint8, t_adv (M,K), row (M,)
    is_paired: bool = False
    replay: ViewReplay | None = None
    is_mixed_together: bool = False
    steps: int = field(init=False)

    def __post_init__(self):
        self.steps = self.dataset_source.steps
        device = self.dataset_source.schedule.device
        self.stored_fields = {name: value.to(device) for name, value in self.stored_fields.items()}

    @property
    def has_samples(self) -> bool:
        """Whether the bank holds more than outputs on the data set."""
        return "x_adv" in self.stored_fields

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""
        schedule, size = self.dataset_source.schedule, self.dataset_source.schedule.batch
        row_order, sample_order = (
            schedule.draw_permutation(len(self.dataset_source.labels), epoch),
            self.draw_sample_order(epoch),
        )
        if self.is_paired:
            row_order = self.stored_fields["row"].cpu()[sample_order]
        parts = [slice(i * size, (i + 1) * size) for i in range(start, self.steps)]
        rows, samples = (
            RowIndex.from_host(order, schedule.device) for order in (row_order, sample_order)
        )
        index_pairs = [(rows[part], samples[part]) for part in parts]
        make_inputs = self.augment_batch if self.replay is None else self.replay_view
        for step, ((rows, samples), images) in enumerate(
            self.read_images(index_pairs, epoch), start
        ):
            rng = schedule.make_step_rng(epoch, step)
            x, y, stored = make_inputs(images, rows, samples, epoch, rng)
            yield Batch(
                x=x,
                y=y,
                index=rows.rows,
                stored=stored,
                progress=schedule.compute_progress(epoch, step, self.steps),
                epoch=epoch,
                rng=rng,
            )

    def read_images(
        self, parts: Sequence[BatchIndices], epoch: int
    ) -> Iterator[tuple[BatchIndices, Any]]:
        """Each part's rows and samples with their images; images in files are prefetched."""

        def fetch_images(part: BatchIndices) -> Any:
            rows, samples = part
            if self.replay is not None:
                view = epoch % self.replay.views.count
                return [
                    side and self.replay.views.make_view(side, index.host_rows, view)
                    for side, index in zip(self.replay.image_sets, part, strict=True)
                ]
            (images,) = self.dataset_source.read_image_batches([rows], epoch)
            held = self.stored_fields.get("x_adv")
            return images, None if held is None else samples.select(held)

        kept = (self.dataset_source.images, self.stored_fields.get("x_adv"))
        if all(images is None or isinstance(images, Tensor) for images in kept):
            return ((part, fetch_images(part)) for part in parts)
        return zip(parts, lazy_images.prefetch_parts(fetch_images, parts), strict=True)

    def draw_sample_order(self, epoch: int) -> Tensor:
        """The samples of an epoch as concatenated permutations; empty if the bank has none."""
        if not self.has_samples:
            return torch.empty(0, dtype=torch.int64)
        schedule, count = self.dataset_source.schedule, len(self.stored_fields["x_adv"])
        passes = range(-(-self.steps * schedule.batch // count))
        return torch.cat([schedule.draw_permutation(count, epoch, f"bank{i}") for i in passes])

    def augment_batch(
        self, images: tuple, rows: RowIndex, samples: RowIndex, epoch: int, rng: torch.Generator
    ) -> BatchInputs:
        """Images, labels and stored fields, augmented as the recipe says."""
        schedule, stored = self.dataset_source.schedule, {}
        x, y = (
            self.dataset_source.remaining_augmentation.augment_images(images[0], rng),
            self.dataset_source.labels[rows.rows],
        )
        if self.has_samples:
            x_adv = schedule.augment_images(images[1], rng)
            y_adv = self.dataset_source.labels[self.stored_fields["row"][samples.rows]]
            x, y, x_adv, y_adv = self.mix_both_sides(x, y, x_adv, y_adv, rng)
            stored = {"x_adv": x_adv, "y_adv": y_adv}
        else:
            x, y = mix(x, y, schedule.mixing, rng)
        if not schedule.changes_pixels:
            for name, index in zip(OUTPUT_FIELDS, (rows, samples), strict=True):
                if name in self.stored_fields:
                    stored[name] = self.stored_fields[name][index.rows].float()
        return x, y, stored

    def mix_both_sides(
        self, x: Tensor, y: Tensor, x_adv: Tensor, y_adv: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Images and samples (B,C,H,W), each with its labels, after Mixup: apart or together."""
        mixing, count = self.dataset_source.schedule.mixing, len(x)
        if self.is_mixed_together:
            both, labels = mix(torch.cat([x, x_adv]), torch.cat([y, y_adv]), mixing, rng)
            return both[:count], labels[:count], both[count:], labels[count:]
        before = rng.get_state()
        x_adv, y_adv = mix(x_adv, y_adv, mixing, rng)
        rng.set_state(before)
        return *mix(x, y, mixing, rng), x_adv, y_adv

    def replay_view(
        self, images: list, rows: RowIndex, samples: RowIndex, epoch: int, rng: torch.Generator
    ) -> BatchInputs:
        """Images, labels and stored fields of this epoch's view; draws nothing."""
        view, shown = epoch % self.replay.views.count, []
        device = self.dataset_source.schedule.device
        for name, side, index, made in zip(
            OUTPUT_FIELDS, self.replay.image_sets, (rows, samples), images, strict=True
        ):
            if side is None:
                continue
            (x, partners, shares), source = made, torch.from_numpy(side.rows)
            labels, others = (
                self.dataset_source.labels[copy_to_device(source[i], device)]
                for i in (index.host_rows, partners)
            )
            output = (
                self.stored_fields[name][index.rows][:, view].float()
                if name in self.stored_fields
                else None
            )
            shown.append(
                (
                    scale_to_unit_range(copy_to_device(x, device)),
                    self.mix_labels(labels, others, shares),
                    output,
                )
            )
        (x, y, t_clean), *rest = shown
        stored = {"t_clean": t_clean}
        if rest:
            stored |= dict(zip(("x_adv", "y_adv", "t_adv"), rest[0], strict=True))
        return x, y, {name: value for name, value in stored.items() if value is not None}

    def mix_labels(self, labels: Tensor, partner_labels: Tensor, shares: Tensor) -> Tensor:
        """Labels (B,), or distributions (B,K) where views are mixed or labels smoothed."""
        mixing = self.dataset_source.schedule.mixing
        if not self.replay.views.has_mixing and not mixing.smoothing:
            return labels
        own = copy_to_device(shares.float(), labels.device).unsqueeze(1)
        hard = own * F.one_hot(labels, mixing.classes) + (1 - own) * F.one_hot(
            partner_labels, mixing.classes
        )
        return hard * (1 - mixing.smoothing) + mixing.smoothing / mixing.classes

    def state_dict(self) -> dict:
        """An empty dict: every draw is named by epoch and step."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Does nothing: there is no state."""


def make_bank_source(
    dataset_source: DatasetSource, folder: Path, needs: Iterable[str]
) -> BankSource:
    """The source of a data set's batches with the fields of a finished bank.

    Raises:
        RetortError: the bank is damaged or incomplete.
    """
    bank = read_bank(folder)
    fields = {
        name: bank.fields[name] for name in ("row", "x_adv", *OUTPUT_FIELDS) if name in bank.fields
    }
    replay = None
    if bank.spec.views is not None:
        rows = torch.arange(len(dataset_source.labels)).numpy()
        own, samples = ImageSet(dataset_source.images, rows, bank.row_starts), None
        if "x_adv" in fields:
            fields["x_adv"] = fields["x_adv"].to(dataset_source.schedule.device)
            samples = ImageSet(fields["x_adv"], fields["row"].numpy(), bank.sample_starts)
        replay = ViewReplay(StoredViews.from_spec(bank.spec), (own, samples))
    return BankSource(dataset_source, fields, PAIRED_NEED in needs, replay, JOINT_NEED in needs)
