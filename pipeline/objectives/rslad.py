"""Robust soft label adversarial distillation (Zi et al., ICCV 2021)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_examples_against,
    show_clean_images,
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
RELEASED = {"kd_scale": 0.1}


class SoftLabelObjective(Protocol):
    """What an objective with RSLAD's two terms has among its fields."""

    @property
    def alpha(self) -> float:
        """Weight of x*'s term; x's has the rest."""

    @property
    def kd_scale(self) -> float:
        """Factor of both."""

    @property
    def clean(self) -> CleanForward:
        """Whether the student sees x where its term has weight 0."""


def compute_soft_label_terms(
    objective: SoftLabelObjective,
    student: nn.Module,
    x: Tensor,
    adversarial_logits: Tensor,
    target: Tensor,
    t: float = 1.0,
) -> Terms:
    """RSLAD's two terms (B,) against the target's logits (B,K); at alpha 1 only that on x*.

    Args:
        objective: the weights.
        student: it sees x (B,C,H,W) here, after x*.
        x: clean images.
        adversarial_logits: the student's output (B,K) on x*.
        target: logits to learn.
        t: temperature of both terms.
    """
    scale, alpha = objective.kd_scale, objective.alpha
    terms = {"kd_adv": scale * alpha * kd_loss(adversarial_logits, target, t)}
    if alpha < 1:
        terms["kd"] = scale * (1 - alpha) * kd_loss(student(x), target, t)
    else:
        show_clean_images(objective.clean, student, x)
    return terms


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
    clean: CleanForward = declare_clean_forward()
    alpha: float = 5 / 6
    temperature: float = 1.0
    kd_scale: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """The teacher's outputs on clean images."""
        return ("t_clean",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, target, t = roles.student, get_clean_teacher_logits(roles, batch), self.temperature
        x_adv = make_examples_against(self.inner_attack, batch, student, kd_loss, target)
        yield compute_soft_label_terms(self, student, batch.x, student(x_adv), target, t)
