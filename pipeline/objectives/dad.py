"""Discrete adversarial distillation (Zhou et al., NeurIPS 2023, eq. 9)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import (
    Batch,
    Roles,
    Terms,
    get_adversarial_teacher_logits,
    get_clean_teacher_logits,
)
from pipeline.core.losses import cross_entropy, kd_loss

REVISION = 1
COMPONENTS = ("pipeline.core.batch", "pipeline.core.losses")


@dataclass(frozen=True)
class Objective:
    """CE(S(x), y) + a t^2 KL_t(T(x) || S(x)) + a t^2 KL_t(T(x~) || S(x~)), x~ from the bank.

    The bank's samples carry no label, and they need not be paired with the clean images.

    Attributes:
        alpha: weight a of each of the two distillation terms.
        temperature: temperature of the softened outputs.
    """

    alpha: float = 0.5
    temperature: float = 4.0

    def needs(self) -> tuple[str, ...]:
        """Labels, the bank's samples, and the teacher's outputs on both."""
        return ("label", "x_adv", "t_clean", "t_adv")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        target, target_adv = (
            get_clean_teacher_logits(roles, batch),
            get_adversarial_teacher_logits(roles, batch),
        )
        logits = roles.student(batch.x)
        logits_adv = roles.student(batch.stored["x_adv"])
        yield {
            "ce": cross_entropy(logits, batch.labels),
            "kd": self.alpha * kd_loss(logits, target, self.temperature),
            "dad": self.alpha * kd_loss(logits_adv, target_adv, self.temperature),
        }
