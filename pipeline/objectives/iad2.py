"""Introspective adversarial distillation with two teachers, IAD-II (Zhu et al., ICLR 2022)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_examples_against,
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
    """AKD^2 whose robust teacher is trusted by a = p_T_rob(x*)_y^beta, as in IAD's code.

    alpha t^2 [a KL_t(T_rob(x*)||S(x*)) + (1-a) KL(S(x)||S(x*))] + natural_weight t^2
    KL_t(T_nat(x*)||S(x*)) + (1-alpha-natural_weight) CE(S(x*), y), x* = argmax CE(S(x'), y). Before
    ``begin``, a share of training, a = 1 and this is ``objectives/akd2``.

    Attributes:
        alpha: weight of the robust teacher and of the student's own output.
        natural_weight: weight of the natural teacher; the label has the rest.
        beta: exponent of the robust teacher's confidence in introspection.
        begin: share of training after which introspection sets in.
        temperature: temperature t of both teachers' terms.
    """

    inner_attack: InnerAttack = declare_attack_options(InnerAttack(start="uniform"))
    clean: CleanForward = declare_clean_forward(default=False)
    alpha: float = 0.5
    natural_weight: float = 0.25
    beta: float = 0.1
    begin: float = 0.2
    temperature: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """Labels and two live teachers."""
        return ("label", "natural", "robust")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, t = roles.student, self.temperature
        x_adv = make_examples_against(
            self.inner_attack, batch, student, cross_entropy, batch.labels
        )
        with torch.no_grad():
            robust, natural = (roles.teachers[r](x_adv) for r in ("robust", "natural"))
        logits = student(x_adv)
        terms = {
            "robust": self.alpha * kd_loss(logits, robust, t),
            "natural": self.natural_weight * kd_loss(logits, natural, t),
            "ce_adv": (1 - self.alpha - self.natural_weight) * cross_entropy(logits, batch.labels),
        }
        if batch.progress >= self.begin:
            trust = (-self.beta * cross_entropy(robust, batch.labels)).exp()
            own = t**2 * kl_divergence(logits, student(batch.x))
            terms["robust"] = trust * terms["robust"]
            terms["self_adv"] = self.alpha * (1 - trust) * own
        else:
            show_clean_images(self.clean, student, batch.x)
        yield terms
