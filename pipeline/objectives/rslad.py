"""Robust soft label adversarial distillation (Zi et al., ICCV 2021)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_adversarial_examples,
)
from pipeline.core.losses import kd_loss

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)


class SoftLabelObjective(Protocol):
    """What an objective with RSLAD's two terms has among its fields."""

    @property
    def alpha(self) -> float:
        """Weight of x*'s term; x's has the rest."""

    @property
    def kd_scale(self) -> float:
        """Factor of both."""


def compute_soft_label_terms(
    objective: SoftLabelObjective,
    adversarial_logits: Tensor,
    clean_logits: Tensor,
    target: Tensor,
    t: float = 1.0,
) -> Terms:
    """RSLAD's two terms (B,) of student logits on x* and x against the target's, all (B,K)."""
    return {
        "kd_adv": objective.kd_scale * objective.alpha * kd_loss(adversarial_logits, target, t),
        "kd": objective.kd_scale * (1 - objective.alpha) * kd_loss(clean_logits, target, t),
    }


@dataclass(frozen=True)
class Objective:
    """alpha KL(T(x) || S(x*)) + (1-alpha) KL(T(x) || S(x)), times kd_scale; no labels.

    x* = argmax KL(T(x) || S(x')): the teacher sees the clean image alone.

    Attributes:
        alpha: weight of the term on x*; the term on x has the rest.
        temperature: temperature of the softened outputs.
        kd_scale: factor of both terms; the released code's is 0.1.
    """

    inner_attack: InnerAttack = declare_attack_options()
    alpha: float = 5 / 6
    temperature: float = 1.0
    kd_scale: float = 0.1

    def needs(self) -> tuple[str, ...]:
        """The teacher's outputs on clean images."""
        return ("t_clean",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, target, t = roles.student, get_clean_teacher_logits(roles, batch), self.temperature
        x_adv = make_adversarial_examples(
            self.inner_attack, batch, lambda z, t: kd_loss(student(z), t), student, reads=(target,)
        )
        yield compute_soft_label_terms(self, student(x_adv), student(batch.x), target, t)
