"""TRADES: robustness traded against accuracy by one weight (Zhang et al., ICML 2019)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_examples_against,
)
from pipeline.core.losses import cross_entropy, kl_divergence
from pipeline.core.pgd import freeze_for_attack

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
    """CE(S(x), y) + beta KL(S(x) || S(x*)), the gradient flowing into both outputs.

    x* = argmax KL(S(x) || S(x')), with S(x) held fixed. One step costs 2 n + 7 F_S.

    Attributes:
        beta: weight of the KL between the outputs on x and x*.
    """

    inner_attack: InnerAttack = declare_attack_options()
    beta: float = 6.0

    def needs(self) -> tuple[str, ...]:
        """Labels; no teacher."""
        return ("label",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student = roles.student
        with torch.no_grad(), freeze_for_attack(student, bn=self.inner_attack.attack_bn):
            fixed_logits = student(batch.x)
        x_adv = make_examples_against(
            self.inner_attack, batch, student, kl_divergence, fixed_logits
        )
        clean = student(batch.x)
        yield {
            "ce": cross_entropy(clean, batch.labels),
            "self_adv": self.beta * kl_divergence(student(x_adv), clean),
        }
