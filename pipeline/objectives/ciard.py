"""Cyclic iterative adversarial robustness distillation, CIARD (Lu et al., ICCV 2025)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms, TrainedRole
from pipeline.core.collectives import all_gather
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_adversarial_examples,
)
from pipeline.core.losses import (
    cross_entropy,
    kl_divergence,
    soften_logits,
    softmax_entropy,
    upcast_logits,
)
from pipeline.objectives.b_mtard import balance_temperatures

REVISION = 3
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.objectives.b_mtard",
    "pipeline.objectives.mtard",
)
RELEASED = {"kd_scale": 0.1}
LEAST = (
    1e-7  # stands for a loss of 0 where its order of magnitude is asked, as in the released code
)


def match_magnitude(losses: Tensor, value: Tensor) -> Tensor:
    """The power of ten, a scalar, that brings ``value`` to the order of the smallest of ``losses``.

    An order of magnitude is the floor of log10: 0.02 and 0.09 have the same.
    """
    given = torch.cat([losses, value.reshape(1)]).abs()
    orders = torch.where(given == 0, LEAST, given).log10().floor()
    return 10 ** (orders[:-1].min() - orders[-1])


@dataclass(eq=False, repr=False)
class Objective(nn.Module):
    """KL(T_rob(x*)/tau_a || S(x*)) + KL(T_nat(x)/tau_n || S(x)) - push, times kd_scale.

    x* = argmax CE(S(x'), y). Push = KL(T_nat(x*) || S(x*)/t), the mean over the images x* that
    T_nat takes for another class, times the power of ten that brings it to the order of magnitude
    of the smaller other term. The temperatures tau move as in ``objectives/b_mtard``. T_rob trains
    too, on CE(T_rob(x*), y).

    Attributes:
        kd_scale: factor of the student's terms; the released code's is 0.1 on ten classes.
        push: factor of the push.
        push_temperature: t, of the student's outputs in the push.
        temperature_rate: change of the temperatures after a step.
        milestones: shares of training at which the temperatures' rate is cut tenfold.
        teacher_lr: learning rate of the robust teacher where it starts to train.
        teacher_momentum: momentum of the robust teacher's SGD.
        teacher_decay: weight decay of the robust teacher's SGD.
        teacher_start: share of training before which the robust teacher's weights stay.
    """

    inner_attack: InnerAttack = declare_attack_options()
    kd_scale: float = 1.0
    push: float = 1.0
    push_temperature: float = 5.0
    temperature_rate: float = 0.001
    milestones: tuple[float, ...] = (215 / 300, 260 / 300, 285 / 300)
    teacher_lr: float = 1e-4
    teacher_momentum: float = 0.1
    teacher_decay: float = 2e-4
    teacher_start: float = 50 / 300
    needs_whole_batch: ClassVar[str] = (
        "its push is a mean over some rows, and its temperatures move once an update"
    )

    def __post_init__(self) -> None:
        super().__init__()
        self.temperatures: Tensor
        self.register_buffer("temperatures", torch.ones(2, dtype=torch.float64))  # tau_a, tau_n

    def needs(self) -> tuple[str, ...]:
        """Labels for the attack and the robust teacher, and both teachers."""
        return ("label", "natural", "robust")

    def trains(self) -> tuple[TrainedRole, ...]:
        """The robust teacher."""
        how = self.teacher_lr, self.teacher_momentum, self.teacher_decay, self.teacher_start
        return (TrainedRole("robust", *how),)

    @torch.no_grad()
    def weigh_push(
        self, gaps: Tensor, is_wrong: Tensor, losses: Tensor, class_count: int
    ) -> Tensor:
        """Each row's weight (B,), so that the weighted gaps' batch mean is that over wrong rows.

        Args:
            gaps: (B,), each row's KL.
            is_wrong: (B,), whether the natural teacher takes x* for another class.
            losses: means over the batch (2,), of x* and of x.
            class_count: orders of magnitude are those of means over rows and classes, as in the
                released code.
        """
        every, wrong = all_gather(gaps.detach()).double(), all_gather(is_wrong).double()
        count = wrong.sum().clamp_min(1)
        pushed = (every * wrong).sum() / count
        factor = match_magnitude(losses / class_count, pushed / class_count)
        return (self.push * factor * len(wrong) / count * is_wrong).to(gaps.dtype)

    @torch.no_grad()
    def move_temperatures(self, softened: list[Tensor], progress: float) -> None:
        """Moves both temperatures by the mean entropies of the softened targets (B,K)."""
        entropies = torch.stack([all_gather(softmax_entropy(z)).mean().double() for z in softened])
        cut = 0.1 ** sum(progress >= m for m in self.milestones)
        balance_temperatures(self.temperatures, entropies, self.temperature_rate * cut)

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, natural = roles.student, roles.teachers["natural"]
        # before the attack, as released: BatchNorm's statistics take in x, then x*
        clean_logits = student(batch.x)
        x_adv = make_adversarial_examples(
            self.inner_attack,
            batch,
            lambda z, y: cross_entropy(student(z), y),
            student,
            reads=(batch.labels,),
        )
        robust_output = roles.teachers["robust"](x_adv)  # with a gradient, for its own loss
        with torch.no_grad():
            natural_output = natural(x_adv)
            targets = robust_output.detach(), natural(batch.x)
            softened = [*map(soften_logits, targets, self.temperatures)]
        logits = student(x_adv)
        sides = kl_divergence(logits, softened[0]), kl_divergence(clean_logits, softened[1])
        losses = torch.stack([all_gather(side.detach()).mean().double() for side in sides])
        gaps = kl_divergence(upcast_logits(logits) / self.push_temperature, natural_output)
        is_wrong = natural_output.argmax(1) != batch.hard_labels
        weights = self.weigh_push(gaps, is_wrong, losses, logits.shape[1])
        self.move_temperatures(softened, batch.progress)
        yield {
            "robust": self.kd_scale * sides[0],
            "natural": self.kd_scale * sides[1],
            "push": -self.kd_scale * weights * gaps,
            "teacher": cross_entropy(robust_output, batch.labels),
        }
