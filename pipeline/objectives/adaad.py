"""Adaptive adversarial distillation (Huang et al., CVPR 2023, eqs. 10-11)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_adversarial_examples,
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


@dataclass(frozen=True)
class Objective:
    """alpha KL_t(T(x*) || S(x*)) + (1-alpha) KL(T(x) || S(x)), times kd_scale; no labels.

    x* = argmax KL(T(x') || S(x')): the inner attack's gradient flows through both networks. At
    alpha=1 the clean forward still runs for its BatchNorm statistics, as in the released code.
    With ``temperature=30`` this is adaad_t30: ``objectives/adaiad`` without introspection.

    Attributes:
        alpha: weight of the term on x*; the term on x has the rest.
        temperature: temperature t of the term on x*.
        kd_scale: factor of the distillation terms; 1/C is a mean over classes as well.
    """

    inner_attack: InnerAttack = declare_attack_options()
    clean: CleanForward = declare_clean_forward()
    alpha: float = 1.0
    temperature: float = 1.0
    kd_scale: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """A live teacher, since the inner attack needs its input gradient."""
        return ("teacher",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, teacher = roles.student, roles.teacher
        x_adv = make_adversarial_examples(
            self.inner_attack,
            batch,
            lambda z: kd_loss(student(z), teacher(z)),
            student,
            teacher,
            reads=(),
        )
        with torch.no_grad():
            target = teacher(x_adv)
        terms = {}
        if self.alpha < 1:
            clean = kd_loss(student(batch.x), get_clean_teacher_logits(roles, batch))
            terms["kd"] = self.kd_scale * (1 - self.alpha) * clean
        else:
            show_clean_images(self.clean, student, batch.x)
        adversarial = kd_loss(student(x_adv), target, self.temperature)
        yield terms | {"kd_adv": self.kd_scale * self.alpha * adversarial}
