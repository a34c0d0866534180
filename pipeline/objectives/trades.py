"""TRADES: robustness traded against accuracy by one weight (Zhang et al., ICML 2019)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import perturbed
from pipeline.core.losses import cross_entropy, kl
from pipeline.core.pgd import attacked
from pipeline.core.threat_models import check_steps

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

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    start: Literal["clean", "gauss", "uniform"] = "gauss"
    beta: float = 6.0
    attack_bn: Literal["eval", "train"] = "eval"
    couples_batch: ClassVar[bool] = False

    def __post_init__(self):
        check_steps(self.eps, self.step, self.steps)

    def needs(self) -> tuple[str, ...]:
        """Labels; no teacher."""
        return ("label",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student = roles.student
        with torch.no_grad(), attacked(student, bn=self.attack_bn):
            still = student(batch.x)
        x_adv = perturbed(self, batch, lambda z: kl(student(z), still), student)
        clean = student(batch.x)
        yield {
            "ce": cross_entropy(clean, batch.y),
            "self_adv": self.beta * kl(student(x_adv), clean),
        }
