"""AKD^2: two teachers on adversarial images (Chen et al., ICLR 2021), as in IAD's code."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import perturbed
from pipeline.core.losses import cross_entropy, kd_kl
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
    """alpha t^2 KL_t(T_rob||S) + beta t^2 KL_t(T_nat||S) + (1-alpha-beta) CE(S, y), all at x*.

    x* = argmax CE(S(x'), y). One step costs 2 n + 3 F_S and 1 F of each teacher.
    """

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    start: Literal["clean", "gauss", "uniform"] = "uniform"
    alpha: float = 0.5
    beta: float = 0.25
    temperature: float = 1.0
    attack_bn: Literal["eval", "train"] = "eval"
    couples_batch: ClassVar[bool] = False

    def __post_init__(self):
        check_steps(self.eps, self.step, self.steps)

    def needs(self) -> tuple[str, ...]:
        """Labels and two live teachers."""
        return ("label", "natural", "robust")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, t = roles.student, self.temperature
        x_adv = perturbed(self, batch, lambda z: cross_entropy(student(z), batch.y), student)
        with torch.no_grad():
            robust, natural = (roles.teachers[r](x_adv) for r in ("robust", "natural"))
        logits = student(x_adv)
        yield {
            "robust": self.alpha * kd_kl(logits, robust, t),
            "natural": self.beta * kd_kl(logits, natural, t),
            "ce_adv": (1 - self.alpha - self.beta) * cross_entropy(logits, batch.y),
        }
