"""Multi-teacher adversarial robustness distillation (Zhao et al., ECCV 2022)."""

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
from pipeline.core.losses import cross_entropy, kl_divergence
from pipeline.core.threat_models import MIN_NORM

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)
RELEASED = {"kd_scale": 0.1}


def shift_weight(weight: Tensor, first: Tensor, losses: Tensor, rate: float) -> Tensor:
    """The natural term's weight, a scalar, moved in place towards the term that has fallen less.

    Args:
        weight: it moves.
        first: the first losses (2,), of x* and of x; filled where they are 0.
        losses: means over the batch (2,).
        rate: share of the way to r_n / (r_a + r_n), r = losses / first.
    """
    first.copy_(torch.where(first > 0, first, losses.clamp_min(MIN_NORM)))
    ratio = losses / first
    return weight.lerp_(ratio[1] / ratio.sum().clamp_min(MIN_NORM), rate).clone()


@dataclass(eq=False, repr=False)
class Objective(nn.Module):
    """w_a KL(T_rob(x*) || S(x*)) + w_n KL(T_nat(x) || S(x)), x* = argmax CE(S(x'), y).

    The side that lags behind its first loss gains weight at ``rate``, cut tenfold at milestones.

    Attributes:
        kd_scale: factor of both terms; the released code's is 0.1 on ten and on a hundred classes.
        rate: step of the weights towards the term that has fallen less.
        milestones: shares of training at which the rate is cut tenfold.
    """

    inner_attack: InnerAttack = declare_attack_options()
    kd_scale: float = 1.0
    rate: float = 0.025
    milestones: tuple[float, ...] = (215 / 300, 260 / 300, 285 / 300)
    needs_whole_batch: ClassVar[str] = "its weights move once an update"

    def __post_init__(self) -> None:
        super().__init__()
        self.weight: Tensor
        self.first: Tensor
        self.register_buffer("weight", torch.full((), 0.5, dtype=torch.float64))  # w_n
        self.register_buffer("first", torch.zeros(2, dtype=torch.float64))  # L_a, L_n

    def needs(self) -> tuple[str, ...]:
        """Labels for the attack and both teachers."""
        return ("label", "natural", "robust")

    @torch.no_grad()
    def update_natural_weight(self, losses: Tensor, progress: float) -> Tensor:
        """w_n, a scalar, one step nearer to r_n / (r_a + r_n), r = losses (2,) / first losses."""
        rate = self.rate * 0.1 ** sum(progress >= m for m in self.milestones)
        return shift_weight(self.weight, self.first, losses, rate)

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, teachers = roles.student, roles.teachers
        x_adv = make_examples_against(
            self.inner_attack, batch, student, cross_entropy, batch.labels
        )
        with torch.no_grad():
            targets = teachers["robust"](x_adv), teachers["natural"](batch.x)
        robust, natural = (
            kl_divergence(student(x_adv), targets[0]),
            kl_divergence(student(batch.x), targets[1]),
        )
        losses = torch.stack([all_gather(side.detach()).mean() for side in (robust, natural)])
        w = self.update_natural_weight(losses.double(), batch.progress)
        yield {"robust": self.kd_scale * (1 - w) * robust, "natural": self.kd_scale * w * natural}
