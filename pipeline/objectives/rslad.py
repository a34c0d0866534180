"""Robust soft label adversarial distillation (Zi et al., ICCV 2021)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.ascent import ascend, attacked
from pipeline.batch import Batch, Roles, Terms, clean_target
from pipeline.losses import kd_kl
from pipeline.threat import Linf, check_steps

REVISION = 1


@dataclass(frozen=True)
class Objective:
    """alpha KL(T(x) || S(x*)) + (1-alpha) KL(T(x) || S(x)), times kd_scale; no labels.

    x* = argmax KL(T(x) || S(x')): the teacher sees the clean image alone.
    """

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    start: Literal["clean", "gauss", "uniform"] = "gauss"
    alpha: float = 5 / 6
    temperature: float = 1.0
    kd_scale: float = 0.1
    attack_bn: Literal["eval", "train"] = "eval"
    couples_batch: ClassVar[bool] = False

    def __post_init__(self):
        check_steps(self.eps, self.step, self.steps)

    def needs(self) -> tuple[str, ...]:
        """The teacher's outputs on clean images."""
        return ("t_clean",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, target, t = roles.student, clean_target(roles, batch), self.temperature
        with attacked(student, bn=self.attack_bn):
            x_adv = ascend(
                batch.x,
                lambda z: kd_kl(student(z), target),
                Linf(self.eps),
                steps=self.steps,
                step=self.step,
                start=self.start,
                rng=batch.rng,
            )
        yield {
            "kd_adv": self.kd_scale * self.alpha * kd_kl(student(x_adv), target, t),
            "kd": self.kd_scale * (1 - self.alpha) * kd_kl(student(batch.x), target, t),
        }
