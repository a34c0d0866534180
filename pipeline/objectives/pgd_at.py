"""Adversarial training (Madry et al., ICLR 2018), as AdaAD's repository runs it."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_adversarial_examples,
)
from pipeline.core.losses import cross_entropy

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

    inner_attack: InnerAttack = declare_attack_options()

    def needs(self) -> tuple[str, ...]:
        """Labels."""
        return ("label",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student = roles.student
        x_adv = make_adversarial_examples(
            self.inner_attack,
            batch,
            lambda z, y: cross_entropy(student(z), y),
            student,
            reads=(batch.labels,),
        )
        yield {"ce_adv": cross_entropy(student(x_adv), batch.labels)}
