"""Accuracy during training, on a split that is taken from the training data."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.collectives import get_rank, get_world_size, sum_numbers
from pipeline.core.images import scale_to_unit_range
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import Linf

REVISION = 1

SELECTION_ATTACK = {"steps": 10, "step_size": 2 / 255}  # PGD-10 at 8/255, as AdaAD selects
EPS = 8 / 255


@dataclass(frozen=True)
class ValidationSplit:
    """A validation split: images (N,C,H,W) uint8, labels (N,)."""

    images: Tensor
    labels: Tensor
    measures_robust: bool
    seed: int
    batch: int = 500

    def measure_accuracy(self, model: nn.Module) -> dict[str, float]:
        """Clean accuracy, and PGD-10 accuracy where it selects the checkpoint; both in [0,1]."""
        correct, robust_correct = 0, 0
        with freeze_modules(model):
            for start in range(0, len(self.images), self.batch):
                x = scale_to_unit_range(self.images[start : start + self.batch])
                y = self.labels[start : start + self.batch]
                first_iterates = self.draw_first_iterates(x, start) if self.measures_robust else x
                x, y, first_iterates = (
                    rows[get_rank() :: get_world_size()] for rows in (x, y, first_iterates)
                )
                with torch.no_grad():
                    correct += (model(x).argmax(1) == y).sum().item()
                if self.measures_robust:
                    robust_correct += count_robust_samples(model, x, y, first_iterates)
        correct, robust_correct = sum_numbers([correct, robust_correct])
        record = {"val_clean": correct / len(self.images)}
        return record | (
            {"val_robust": robust_correct / len(self.images)} if self.measures_robust else {}
        )

    def draw_first_iterates(self, x: Tensor, start: int) -> Tensor:
        """First iterates (B,C,H,W) of the attack on the rows from ``start`` on."""
        return Linf(EPS).sample(x, make_generator(self.seed, "validation", start, device=x.device))


def count_robust_samples(model: nn.Module, x: Tensor, y: Tensor, first_iterates: Tensor) -> int:
    """The number of images that are classified correctly after PGD-10 from the first iterates."""
    if len(x) == 0:
        return 0
    adv = run_pgd(
        x, lambda z: cross_entropy(model(z), y), Linf(EPS), start=first_iterates, **SELECTION_ATTACK
    )
    with torch.no_grad():
        return (model(adv).argmax(1) == y).sum().item()
