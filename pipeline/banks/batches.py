"""Batches of a data set with a bank beside them: stored outputs, samples, pairs, stored views.

The draws are those of `pipeline.data.batches` and no key knows this module: who changes a number
here raises REVISION in `pipeline.banks.shards`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.banks.reader import read_bank
from pipeline.banks.stored_views import Side, Views
from pipeline.core.batch import Batch, Roles
from pipeline.core.images import pixels
from pipeline.core.mixup import mix
from pipeline.data import lazy_images
from pipeline.data.batches import DatasetSource

PAIRED = "paired"  # an objective's need: each sample beside its own image
OUTPUTS = ("t_clean", "t_adv")

Rows = tuple[Tensor, Tensor]  # a batch's source rows and its samples
Shown = tuple[Tensor, Tensor, dict[str, Tensor]]


@dataclass(frozen=True)
class Replay:
    """A bank's views, and their two sides: clean images, and samples or None."""

    views: Views
    sides: tuple[Side, Side | None]


@dataclass
class BankSource:
    """A data set's batches with a bank's fields beside them.

    Clean images and their teacher outputs ``t_clean`` are aligned; samples ``x_adv`` with labels
    ``y_adv`` and outputs ``t_adv`` come from a permutation of their own, because DAD's eq. 9 asks
    for no pairs and rejected samples have none. ``paired`` takes each sample's own image instead:
    then images without a sample are not seen. Either way an epoch has the data set's steps.

    Stored outputs are given where pixels are as stored or replayed. Otherwise the teacher must be
    live: image and sample are augmented, and mixed apart from each other with one lambda and box.
    """

    clean: DatasetSource
    stored: Mapping[str, Tensor]  # t_clean (N,K); x_adv (M,C,H,W) uint8, t_adv (M,K), row (M,)
    paired: bool = False
    replay: Replay | None = None
    steps: int = field(init=False)

    def __post_init__(self):
        self.steps = self.clean.steps
        device = self.clean.schedule.device
        self.stored = {name: value.to(device) for name, value in self.stored.items()}

    @property
    def has_samples(self) -> bool:
        """Whether the bank holds more than outputs on the data set."""
        return "x_adv" in self.stored

    def batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        """Batches of an epoch from step ``start`` on."""
        plan, size = self.clean.schedule, self.clean.schedule.batch
        own, taken = plan.order(len(self.clean.labels), epoch), self.samples_in(epoch)
        if self.paired:
            own = self.stored["row"].cpu()[taken]
        parts = [slice(i * size, (i + 1) * size) for i in range(start, self.steps)]
        both = [(own[part].to(plan.device), taken[part].to(plan.device)) for part in parts]
        show = self.live if self.replay is None else self.replayed
        for step, ((rows, samples), images) in enumerate(self.read(both, epoch), start):
            rng = plan.step_rng(epoch, step)
            x, y, stored = show(images, rows, samples, epoch, rng)
            yield Batch(
                x=x,
                y=y,
                index=rows,
                stored=stored,
                progress=plan.progress(epoch, step, self.steps),
                epoch=epoch,
                rng=rng,
            )

    def read(self, parts: Sequence[Rows], epoch: int) -> Iterator[tuple[Rows, Any]]:
        """Each part's rows and samples with their images, ahead of need where they are in files."""

        def fetch(part: Rows) -> Any:
            rows, samples = part
            if self.replay is not None:
                view = epoch % self.replay.views.count
                return [
                    side and self.replay.views.images(side, index, view)
                    for side, index in zip(self.replay.sides, part, strict=True)
                ]
            ((_, images),) = self.clean.taken([rows], epoch)
            return images, self.stored["x_adv"][samples] if self.has_samples else None

        kept = (self.clean.images, self.stored.get("x_adv"))
        if all(images is None or isinstance(images, Tensor) for images in kept):
            return ((part, fetch(part)) for part in parts)
        return zip(parts, lazy_images.ahead(fetch, parts), strict=True)

    def samples_in(self, epoch: int) -> Tensor:
        """The samples of an epoch, whole permutations one after the other; none without any."""
        if not self.has_samples:
            return torch.empty(0, dtype=torch.int64)
        plan, count = self.clean.schedule, len(self.stored["x_adv"])
        passes = range(-(-self.steps * plan.batch // count))
        return torch.cat([plan.order(count, epoch, f"bank{i}") for i in passes])

    def live(
        self, images: tuple, rows: Tensor, samples: Tensor, epoch: int, rng: torch.Generator
    ) -> Shown:
        """Images, labels and stored fields, augmented as the recipe says."""
        plan, stored = self.clean.schedule, {}
        x, y = self.clean.viewed.view(images[0], rng), self.clean.labels[rows]
        if self.has_samples:
            x_adv = plan.view(images[1], rng)
            y_adv = self.clean.labels[self.stored["row"][samples]]
            before = rng.get_state()
            x_adv, y_adv = mix(x_adv, y_adv, plan.mixing, rng)
            rng.set_state(before)
            stored = {"x_adv": x_adv, "y_adv": y_adv}
        x, y = mix(x, y, plan.mixing, rng)
        if not plan.changes_pixels:
            for name, index in zip(OUTPUTS, (rows, samples), strict=True):
                if name in self.stored:
                    stored[name] = self.stored[name][index].float()
        return x, y, stored

    def replayed(
        self, images: list, rows: Tensor, samples: Tensor, epoch: int, rng: torch.Generator
    ) -> Shown:
        """Images, labels and stored fields of this epoch's view; nothing is drawn here."""
        view, shown = epoch % self.replay.views.count, []
        for name, side, index, made in zip(
            OUTPUTS, self.replay.sides, (rows, samples), images, strict=True
        ):
            if side is None:
                continue
            (x, partners, shares), source = made, torch.from_numpy(side.rows)
            labels, others = (
                self.clean.labels[source[i.cpu()].to(index.device)] for i in (index, partners)
            )
            output = self.stored[name][index][:, view].float() if name in self.stored else None
            shown.append((pixels(x.to(index.device)), self.shared(labels, others, shares), output))
        (x, y, t_clean), *rest = shown
        stored = {"t_clean": t_clean}
        if rest:
            stored |= dict(zip(("x_adv", "y_adv", "t_adv"), rest[0], strict=True))
        return x, y, {name: value for name, value in stored.items() if value is not None}

    def shared(self, labels: Tensor, others: Tensor, shares: Tensor) -> Tensor:
        """Labels (B,), or distributions (B,K) where views are mixed or labels smoothed."""
        how = self.clean.schedule.mixing
        if not self.replay.views.mixes and not how.smoothing:
            return labels
        own = shares.to(labels.device, torch.float32).unsqueeze(1)
        hard = own * F.one_hot(labels, how.classes) + (1 - own) * F.one_hot(others, how.classes)
        return hard * (1 - how.smoothing) + how.smoothing / how.classes

    def state_dict(self) -> dict:
        """Nothing: every draw is named by epoch and step."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Nothing to take back."""


def with_bank(clean: DatasetSource, folder: Path, needs: Iterable[str]) -> BankSource:
    """A data set's batches with what an objective needs of a finished bank.

    Raises:
        RetortError: the bank is not whole.
    """
    bank = read_bank(folder)
    fields = {name: bank.fields[name] for name in ("row", "x_adv", *OUTPUTS) if name in bank.fields}
    replay = None
    if bank.spec.views is not None:
        rows = torch.arange(len(clean.labels)).numpy()
        own, samples = Side(clean.images, rows, bank.clean_starts), None
        if "x_adv" in fields:
            samples = Side(fields["x_adv"], fields["row"].numpy(), bank.starts)
        replay = Replay(Views.of(bank.spec), (own, samples))
    return BankSource(clean, fields, PAIRED in needs, replay)
