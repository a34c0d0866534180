"""TRADES: robustness traded against accuracy by one weight (Zhang et al., ICML 2019)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import InnerAttack, attack_options, perturbed
from pipeline.core.losses import cross_entropy, kl
from pipeline.core.pgd import attacked

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
    """

    inner_attack: InnerAttack = attack_options()
    beta: float = 6.0

    def needs(self) -> tuple[str, ...]:
        """Labels; no teacher."""
        return ("label",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student = roles.student
        with torch.no_grad(), attacked(student, bn=self.inner_attack.attack_bn):
            still = student(batch.x)
        x_adv = perturbed(self.inner_attack, batch, lambda z: kl(student(z), still), student)
        clean = student(batch.x)
        yield {
            "ce": cross_entropy(clean, batch.y),
            "self_adv": self.beta * kl(student(x_adv), clean),
        }
