"""Adversarial training (Madry et al., ICLR 2018), as AdaAD's repository runs it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import perturbed
from pipeline.core.losses import cross_entropy
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
    """CE(S(x*), y) with x* = argmax CE(S(x'), y) in the L-infinity ball."""

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    start: Literal["clean", "gauss", "uniform"] = "gauss"
    attack_bn: Literal["eval", "train"] = "eval"
    couples_batch: ClassVar[bool] = False

    def __post_init__(self):
        check_steps(self.eps, self.step, self.steps)

    def needs(self) -> tuple[str, ...]:
        """Labels."""
        return ("label",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student = roles.student
        x_adv = perturbed(self, batch, lambda z: cross_entropy(student(z), batch.y), student)
        yield {"ce_adv": cross_entropy(student(x_adv), batch.y)}
