"""Adversarial knowledge distillation (Maroto et al., 2022; AdaAD paper, eq. 5)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_examples_against,
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
    """CE(S(x*), beta p_T(x*) + (1-beta) 1_y), x* = argmax CE(S(x'), y); the teacher sees x*.

    AdaAD does not give beta: choose it on validation data. AKD with two teachers is ``akd2``.
    One step costs 2 n + 3 F_S + 1 F_T.

    Attributes:
        beta: share of the teacher's output in the target; the label has the rest.
    """

    inner_attack: InnerAttack = declare_attack_options()
    beta: float = 0.5

    def needs(self) -> tuple[str, ...]:
        """Labels and a live teacher."""
        return ("label", "teacher")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student = roles.student
        x_adv = make_examples_against(
            self.inner_attack, batch, student, cross_entropy, batch.labels
        )
        with torch.no_grad():
            soft = roles.teacher(x_adv).softmax(1)
        logits = student(x_adv)
        yield {
            "kd_adv": self.beta * cross_entropy(logits, soft),
            "ce_adv": (1 - self.beta) * cross_entropy(logits, batch.labels),
        }
