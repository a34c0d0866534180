"""Anti-bias soft label distillation, ABSLD (Zhao et al., NeurIPS 2024)."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.collectives import all_gather
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_examples_against,
)
from pipeline.core.losses import cross_entropy, kl_divergence, soften_logits
from pipeline.core.threat_models import MIN_NORM

REVISION = 2
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)
RELEASED = {"kd_scale": 0.1}
COOLEST, HOTTEST = 0.5, 5.0  # bounds of a temperature, as in the released code


@dataclass(eq=False, repr=False)
class Objective(nn.Module):
    """alpha KL(T(x)/tau_a[y] || S(x*)) + (1-alpha) KL(T(x)/tau_n[y] || S(x)), times kd_scale.

    x* = argmax KL(T(x)/tau_a[y] || S(x')). Every epoch tau[c] loses ``rate`` times class c's loss
    above the mean of the classes, over the largest such gap: classes that lag get sharper targets.

    Attributes:
        alpha: weight of the term on x*; the term on x has the rest.
        kd_scale: factor of both terms; the released code's is 0.1 on ten classes.
        rate: largest change of a temperature after an epoch.
        milestones: shares of training at which the rate is cut tenfold.
    """

    inner_attack: InnerAttack = declare_attack_options()
    alpha: float = 5 / 6
    kd_scale: float = 1.0
    rate: float = 0.1
    milestones: tuple[float, ...] = (215 / 300, 260 / 300, 285 / 300)

    def __post_init__(self) -> None:
        super().__init__()
        self.temperatures: Tensor
        self.losses: Tensor
        self.counts: Tensor
        self.epoch: Tensor
        self.register_buffer("epoch", torch.zeros((), dtype=torch.int64))

    def needs(self) -> tuple[str, ...]:
        """Labels, whose classes choose temperatures, and the teacher's outputs on clean images."""
        return ("label", "t_clean")

    def prepare(self, roles: Roles, batch: Batch) -> None:
        """Makes a temperature and a sum of losses for each class, of x* and of x."""
        logits = get_clean_teacher_logits(roles, batch)
        zeros = torch.zeros(2, logits.shape[1], dtype=torch.float64, device=logits.device)
        self.register_buffer("temperatures", torch.ones_like(zeros))
        self.register_buffer("losses", zeros)
        self.register_buffer("counts", torch.zeros_like(zeros[0]))

    @torch.no_grad()
    def move_temperatures(self, epoch: int, progress: float) -> None:
        """Moves each class's temperatures at the first step of an epoch; reads no number."""
        is_new, seen = self.epoch != epoch, self.counts > 0
        means = self.losses / self.counts.clamp_min(1)
        middle = means.sum(1, keepdim=True) / seen.sum().clamp_min(1)
        gaps = torch.where(seen, means - middle, torch.zeros_like(means))
        rate = self.rate * 0.1 ** sum(progress >= m for m in self.milestones)
        largest = gaps.abs().amax(1, keepdim=True).clamp_min(MIN_NORM)
        moved = (self.temperatures - rate * gaps / largest).clamp(COOLEST, HOTTEST)
        self.temperatures.copy_(torch.where(is_new, moved, self.temperatures))
        self.losses.mul_(~is_new)
        self.counts.mul_(~is_new)
        self.epoch.fill_(epoch)

    @torch.no_grad()
    def note_losses(self, labels: Tensor, *outputs: Tensor) -> None:
        """Adds the cross-entropies of logits (B,K) on x* and x to the sums of their classes."""
        everyone = all_gather(labels)
        self.counts.index_add_(0, everyone, torch.ones_like(everyone, dtype=torch.float64))
        for total, logits in zip(self.losses, outputs, strict=True):
            total.index_add_(0, everyone, all_gather(cross_entropy(logits, labels)).double())

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, labels = roles.student, batch.hard_labels
        self.move_temperatures(batch.epoch, batch.progress)
        clean = get_clean_teacher_logits(roles, batch)
        hot, mild = (soften_logits(clean, t[labels, None]) for t in self.temperatures)
        x_adv = make_examples_against(self.inner_attack, batch, student, kl_divergence, hot)
        outputs = student(x_adv), student(batch.x)
        self.note_losses(labels, *outputs)
        yield {
            "kd_adv": self.kd_scale * self.alpha * kl_divergence(outputs[0], hot),
            "kd": self.kd_scale * (1 - self.alpha) * kl_divergence(outputs[1], mild),
        }
