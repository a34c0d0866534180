"""AKD^2: two teachers on adversarial images (Chen et al., ICLR 2021), as in IAD's code."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_examples_against,
)
from pipeline.core.losses import cross_entropy, kd_loss

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)


@dataclass(frozen=True)
class Objective:
    """alpha t^2 KL_t(T_rob||S) + beta t^2 KL_t(T_nat||S) + (1-alpha-beta) CE(S, y), all at x*.

    x* = argmax CE(S(x'), y). One step costs 2 n + 3 F_S and 1 F of each teacher.

    Attributes:
        alpha: weight of the robust teacher.
        beta: weight of the natural teacher; the label has the rest.
        temperature: temperature of the softened outputs.
    """

    inner_attack: InnerAttack = declare_attack_options(InnerAttack(start="uniform"))
    alpha: float = 0.5
    beta: float = 0.25
    temperature: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """Labels and two live teachers."""
        return ("label", "natural", "robust")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, t = roles.student, self.temperature
        x_adv = make_examples_against(
            self.inner_attack, batch, student, cross_entropy, batch.labels
        )
        with torch.no_grad():
            robust, natural = (roles.teachers[r](x_adv) for r in ("robust", "natural"))
        logits = student(x_adv)
        yield {
            "robust": self.alpha * kd_loss(logits, robust, t),
            "natural": self.beta * kd_loss(logits, natural, t),
            "ce_adv": (1 - self.alpha - self.beta) * cross_entropy(logits, batch.labels),
        }
