"""Introspective adversarial distillation, IAD-I (Zhu et al., ICLR 2022)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_examples_against,
    show_clean_images,
)
from pipeline.core.losses import cross_entropy, kd_loss, kl_divergence

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
    """[a] alpha t^2 KL_t(T(x)||S(x*)) + alpha (1-a) KL(S(x)||S(x*)) + (1-alpha) CE(S(x), y).

    a = p_T(x*)_y^beta is how far the teacher is trusted; before ``begin``, a share of training,
    a = 1 and this is ARD. x* = argmax CE(S(x'), y); both KL terms carry kd_scale. The released
    code weights the teacher's term with 1, the paper with a (``weight_teacher``).

    Attributes:
        alpha: weight of the distillation terms; the cross-entropy has the rest.
        beta: exponent of the teacher's confidence in introspection.
        begin: share of training after which introspection sets in.
        temperature: temperature t of the teacher's term.
        kd_scale: factor of both KL terms.
        weight_teacher: whether the teacher's term is weighted by a as well, as the paper prints it.
    """

    inner_attack: InnerAttack = declare_attack_options(InnerAttack(start="uniform"))
    clean: CleanForward = declare_clean_forward()
    alpha: float = 1.0
    beta: float = 0.1
    begin: float = 0.3
    temperature: float = 1.0
    kd_scale: float = 1.0
    weight_teacher: bool = False

    def needs(self) -> tuple[str, ...]:
        """Labels and a live teacher, which also sees x*."""
        return ("label", "teacher")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, target = roles.student, get_clean_teacher_logits(roles, batch)
        x_adv = make_examples_against(
            self.inner_attack, batch, student, cross_entropy, batch.labels
        )
        logits, terms = student(x_adv), {}
        teacher_term = self.alpha * self.kd_scale * kd_loss(logits, target, self.temperature)
        introspects = batch.progress >= self.begin
        if introspects or self.alpha < 1:
            clean = student(batch.x)
        else:
            show_clean_images(self.clean, student, batch.x)
        if introspects:
            with torch.no_grad():
                trust = (-self.beta * cross_entropy(roles.teacher(x_adv), batch.labels)).exp()
            terms["self_adv"] = (
                self.alpha * self.kd_scale * (1 - trust) * kl_divergence(logits, clean)
            )
            teacher_term = trust * teacher_term if self.weight_teacher else teacher_term
        if self.alpha < 1:
            terms["ce"] = (1 - self.alpha) * cross_entropy(clean, batch.labels)
        yield terms | {"kd_adv": teacher_term}
