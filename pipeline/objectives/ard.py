"""Adversarially robust distillation (Goldblum et al., AAAI 2020)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_examples_against,
    show_clean_images,
)
from pipeline.core.losses import cross_entropy, kd_loss

REVISION = 2
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
    """(1-alpha) CE(S(x), y) + kd_scale alpha t^2 KL_t(T(x) || S(x*)), x* = argmax CE(S(x'), y).

    The teacher sees the clean image alone. t = 30 is the released code's, whose kd_scale is 1/C, as
    its mean is over samples and classes: 0.1 for ten classes. ARD as IAD's authors run it, ard_t1,
    is ``temperature=1``. One step costs 2 n + 4 F_S + 1 F_T, with the clean forward that the code
    runs at alpha = 1 too.

    Attributes:
        alpha: weight of the distillation; the cross-entropy has the rest.
        temperature: temperature of the softened outputs.
        kd_scale: factor of the distillation terms; 1/C is a mean over classes as well.
    """

    inner_attack: InnerAttack = declare_attack_options(InnerAttack(start="uniform"))
    clean: CleanForward = declare_clean_forward()
    alpha: float = 1.0
    temperature: float = 30.0
    kd_scale: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """Labels for the attack, and the teacher's outputs on clean images."""
        return ("label", "t_clean")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, target = roles.student, get_clean_teacher_logits(roles, batch)
        x_adv = make_examples_against(
            self.inner_attack, batch, student, cross_entropy, batch.labels
        )
        kd = kd_loss(student(x_adv), target, self.temperature)
        terms = {"kd_adv": self.kd_scale * self.alpha * kd}
        if self.alpha < 1:
            terms["ce"] = (1 - self.alpha) * cross_entropy(student(batch.x), batch.labels)
        else:
            show_clean_images(self.clean, student, batch.x)
        yield terms
