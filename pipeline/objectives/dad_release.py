"""DAD as its released training loop computes it (Zhou et al., NeurIPS 2023)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import (
    Batch,
    Roles,
    Terms,
    get_adversarial_teacher_logits,
    get_clean_teacher_logits,
)
from pipeline.core.losses import cross_entropy, kd_loss

REVISION = 2
COMPONENTS = ("pipeline.core.batch", "pipeline.core.losses")


@dataclass(frozen=True)
class Objective:
    """(1-w) CE + w [(1-alpha) CE + alpha t^2 KL_t] over clean and bank images as one batch.

    At the defaults that is 0.75 CE + 4 KL. Unlike eq. 9 the bank's images carry the labels of
    their source rows, the student sees both halves in one forward, as one BatchNorm batch, and
    Mixup mixes the halves with each other: each clean image with a bank image.

    Attributes:
        weight: share of the distillation loss, w.
        alpha: weight of the KL in it; the cross-entropy has the rest.
        temperature: temperature of the softened outputs.
    """

    weight: float = 0.5
    alpha: float = 0.5
    temperature: float = 4.0

    def needs(self) -> tuple[str, ...]:
        """Labels and the teacher's outputs, of clean and of bank images, mixed as one batch."""
        return ("label", "x_adv", "y_adv", "t_clean", "t_adv", "mixed_together")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        target = torch.cat(
            [get_clean_teacher_logits(roles, batch), get_adversarial_teacher_logits(roles, batch)]
        )
        y = torch.cat([batch.labels, batch.stored["y_adv"]])
        logits = roles.student(torch.cat([batch.x, batch.stored["x_adv"]]))
        ce = cross_entropy(logits, y).view(2, -1).mean(0)
        kd = kd_loss(logits, target, self.temperature).view(2, -1).mean(0)
        yield {"ce": (1 - self.weight * self.alpha) * ce, "kd": self.weight * self.alpha * kd}
