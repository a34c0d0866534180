"""AdaIAD: adaptive attack and introspection (Huang et al., CVPR 2023)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_adversarial_examples,
    show_clean_images,
)
from pipeline.core.losses import cross_entropy, kd_loss, kl_divergence

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
    """alpha t^2 KL_t(T(x*)||S(x*)) + alpha (1-a) KL(S(x)||S(x*)) + (1-alpha) CE(S(x), y).

    x* = argmax KL(T(x') || S(x')) through both networks. a = 1 before ``begin``, a share of
    training, and p_T(x*)_y^beta from then on. AdaAD has neither introspection nor t = 30; with
    ``temperature=30`` it lacks only introspection. S(x) runs for BatchNorm even where no term
    reads it.

    Attributes:
        alpha: weight of the distillation terms; the cross-entropy has the rest.
        beta: exponent of the teacher's confidence in introspection.
        begin: share of training after which introspection sets in.
        temperature: temperature t of the teacher's term.
        kd_scale: factor of both KL terms.
    """

    inner_attack: InnerAttack = declare_attack_options()
    clean: CleanForward = declare_clean_forward()
    alpha: float = 1.0
    beta: float = 0.1
    begin: float = 0.3
    temperature: float = 30.0
    kd_scale: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """Labels and a live teacher, since the inner attack needs its input gradient."""
        return ("label", "teacher")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, teacher, scale = roles.student, roles.teacher, self.kd_scale * self.alpha
        x_adv = make_adversarial_examples(
            self.inner_attack,
            batch,
            lambda z: kl_divergence(student(z), teacher(z)),
            student,
            teacher,
            reads=(),
        )
        introspects = batch.progress >= self.begin
        with torch.no_grad():
            target = teacher(x_adv)
            trust = (-self.beta * cross_entropy(target, batch.labels)).exp()
        if introspects or self.alpha < 1:
            clean = student(batch.x)
        else:
            show_clean_images(self.clean, student, batch.x)
        logits = student(x_adv)
        terms = {"kd_adv": scale * kd_loss(logits, target, self.temperature)}
        if introspects:
            terms["self_adv"] = scale * (1 - trust) * kl_divergence(logits, clean)
        if self.alpha < 1:
            terms["ce"] = (1 - self.alpha) * cross_entropy(clean, batch.labels)
        yield terms
