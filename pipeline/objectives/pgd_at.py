"""Adversarial training (Madry et al., ICLR 2018), as AdaAD's repository runs it."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_examples_against,
    show_clean_images,
)
from pipeline.core.losses import cross_entropy

REVISION = 2
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)


@dataclass(frozen=True)
class Objective:
    """CE(S(x*), y) with x* = argmax CE(S(x'), y) in the L-infinity ball.

    As in AdaAD's repository the student then sees the clean images as well, for BatchNorm alone.
    """

    inner_attack: InnerAttack = declare_attack_options()
    clean: CleanForward = declare_clean_forward()

    def needs(self) -> tuple[str, ...]:
        """Labels."""
        return ("label",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student = roles.student
        x_adv = make_examples_against(
            self.inner_attack, batch, student, cross_entropy, batch.labels
        )
        terms = {"ce_adv": cross_entropy(student(x_adv), batch.labels)}
        show_clean_images(self.clean, student, batch.x)
        yield terms
