"""Balanced multi-teacher adversarial distillation, B-MTARD (Zhao et al., TPAMI 2024)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.collectives import all_gather
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_examples_against,
)
from pipeline.core.losses import cross_entropy, kl_divergence, soften_logits, softmax_entropy
from pipeline.objectives.mtard import shift_weight

REVISION = 2
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.objectives.mtard",
)
RELEASED = {"kd_scale": 0.1}
COOLEST, HOTTEST = 1.0, 10.0  # bounds of a temperature, as in the released code


def balance_temperatures(temperatures: Tensor, entropies: Tensor, rate: float) -> None:
    """Moves temperatures (2,) in place, by ``rate`` each and within their bounds.

    The teacher of the larger mean entropy, of ``entropies`` (2,), gets a lower temperature, the
    other a higher one.
    """
    sign = (entropies - entropies.flip(0)).sign()
    temperatures.copy_((temperatures - rate * sign).clamp(COOLEST, HOTTEST))


@dataclass(eq=False, repr=False)
class Objective(nn.Module):
    """w_a KL(T_rob(x*)/tau_a || S(x*)) + w_n KL(T_nat(x)/tau_n || S(x)), times kd_scale.

    x* = argmax CE(S(x'), y); the weights move as in ``objectives/mtard``. After each step the
    teacher of the larger mean entropy gets a lower temperature, the other a higher one.

    Attributes:
        kd_scale: factor of both terms; the released code's is 0.1 on ten classes.
        rate: step of the weights towards the term that has fallen less.
        temperature_rate: change of the temperatures after a step.
        milestones: shares of training at which both rates are cut tenfold.
    """

    inner_attack: InnerAttack = declare_attack_options()
    kd_scale: float = 1.0
    rate: float = 0.025
    temperature_rate: float = 0.001
    milestones: tuple[float, ...] = (215 / 300, 260 / 300, 285 / 300)
    needs_whole_batch: ClassVar[str] = "its weights and temperatures move once an update"

    def __post_init__(self) -> None:
        super().__init__()
        self.weight: Tensor
        self.first: Tensor
        self.temperatures: Tensor
        self.register_buffer("weight", torch.full((), 0.5, dtype=torch.float64))  # w_n
        self.register_buffer("first", torch.zeros(2, dtype=torch.float64))  # L_a, L_n
        self.register_buffer("temperatures", torch.ones(2, dtype=torch.float64))  # tau_a, tau_n

    def needs(self) -> tuple[str, ...]:
        """Labels for the attack and both teachers."""
        return ("label", "natural", "robust")

    @torch.no_grad()
    def move(self, losses: Tensor, entropies: Tensor, progress: float) -> Tensor:
        """The weight w_n after the step; moves it and the temperatures.

        Args:
            losses: means over the batch (2,), of x* and of x.
            entropies: mean entropies (2,) of the robust and of the natural teacher.
            progress: share of training done.
        """
        cut = 0.1 ** sum(progress >= m for m in self.milestones)
        balance_temperatures(self.temperatures, entropies, self.temperature_rate * cut)
        return shift_weight(self.weight, self.first, losses, self.rate * cut)

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, teachers = roles.student, roles.teachers
        x_adv = make_examples_against(
            self.inner_attack, batch, student, cross_entropy, batch.labels
        )
        with torch.no_grad():
            outputs = teachers["robust"](x_adv), teachers["natural"](batch.x)
            softened = [*map(soften_logits, outputs, self.temperatures)]
        sides = [
            kl_divergence(student(z), target)
            for z, target in zip((x_adv, batch.x), softened, strict=True)
        ]
        losses, entropies = (
            torch.stack([all_gather(side.detach()).mean().double() for side in pair])
            for pair in (sides, [softmax_entropy(z) for z in softened])
        )
        w = self.move(losses, entropies, batch.progress)
        yield {
            "robust": self.kd_scale * (1 - w) * sides[0],
            "natural": self.kd_scale * w * sides[1],
        }
