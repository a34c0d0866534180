"""What training watches: accuracy on a split cut from the training data, never on the test set."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.collectives import rank, size, totals
from pipeline.core.images import pixels
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import ascend, frozen
from pipeline.core.seeding import generator
from pipeline.core.threat_models import Linf

REVISION = 1

SELECTION = {"steps": 10, "step": 2 / 255}  # PGD-10 at 8/255, as AdaAD selects
EPS = 8 / 255


@dataclass(frozen=True)
class Validation:
    """A validation split: images (N,C,H,W) uint8, labels (N,)."""

    images: Tensor
    labels: Tensor
    robust: bool
    seed: int
    batch: int = 500

    def measure(self, model: nn.Module) -> dict[str, float]:
        """Clean accuracy, and PGD-10 accuracy where the checkpoint is chosen by it, in [0,1]."""
        right, robust = 0, 0
        with frozen(model):
            for start in range(0, len(self.images), self.batch):
                x = pixels(self.images[start : start + self.batch])
                y = self.labels[start : start + self.batch]
                first = self.noisy(x, start) if self.robust else x
                x, y, first = (rows[rank() :: size()] for rows in (x, y, first))
                with torch.no_grad():
                    right += (model(x).argmax(1) == y).sum().item()
                if self.robust:
                    robust += survivors(model, x, y, first)
        right, robust = totals([right, robust])
        record = {"val_clean": right / len(self.images)}
        return record | ({"val_robust": robust / len(self.images)} if self.robust else {})

    def noisy(self, x: Tensor, start: int) -> Tensor:
        """First iterates (B,C,H,W) of the attack on the rows from ``start`` on."""
        return Linf(EPS).sample(x, generator(self.seed, "validation", start, device=x.device))


def survivors(model: nn.Module, x: Tensor, y: Tensor, first: Tensor) -> int:
    """How many samples PGD-10 from ``first`` leaves right."""
    if len(x) == 0:
        return 0
    adv = ascend(x, lambda z: cross_entropy(model(z), y), Linf(EPS), start=first, **SELECTION)
    with torch.no_grad():
        return (model(adv).argmax(1) == y).sum().item()
