"""In the manner of DFARD (Wang et al., AAAI 2024): a temperature that plays against the student."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.collectives import all_gather
from pipeline.core.inner_attack import InnerAttack, declare_attack_options, iterate_training_views
from pipeline.core.losses import kd_loss, kl_divergence

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)

TEMPERATURE_RANGE = (1.0, 10.0)


@dataclass(eq=False, repr=False)
class Objective(nn.Module):
    """t^2 KL_t(T(x) || S(x)) where t climbs this loss by gradient steps; an approximation.

    DFARD's own equations are not public, so this is not its method. ``attack: rslad`` trains also
    on x* = argmax KL(T(x) || S(x')), weighted by alpha.

    Attributes:
        temperature: t at the start.
        rate: step size of t's gradient ascent; t stays within [1, 10].
        attack: "rslad" trains on x* as well, "none" on x alone.
        alpha: weight of the loss on x* under attack; the loss on x has the rest.
    """

    needs_whole_batch: ClassVar[str] = "the temperature moves once an update"

    temperature: float = 4.0
    rate: float = 0.1
    attack: Literal["none", "rslad"] = "rslad"
    alpha: float = 5 / 6
    inner_attack: InnerAttack = declare_attack_options(fixed=("start", "attack_bn"))

    def __post_init__(self) -> None:
        super().__init__()
        self.t: Tensor
        self.register_buffer("t", torch.full((), self.temperature, dtype=torch.float64))

    def needs(self) -> tuple[str, ...]:
        """A generator and its teacher."""
        return ("generated", "teacher")

    def ascend_temperature(self, logits: Tensor, target: Tensor) -> None:
        """Takes one step of t up the mean loss of logits (B,K); no network is run."""
        t = self.t.clone().requires_grad_()
        with torch.enable_grad():
            student, teacher = (z.detach().double() / t for z in (logits, target))
            loss = (t * t * kl_divergence(student, teacher)).mean()
        (slope,) = torch.autograd.grad(loss, t)
        self.t.add_(self.rate * slope).clamp_(*TEMPERATURE_RANGE)

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        target, t = get_clean_teacher_logits(roles, batch), self.t.clone()
        terms = {}
        for name, weight, logits in iterate_training_views(
            self, roles.student, batch, kl_divergence, reads=(target,)
        ):
            terms[name] = weight * kd_loss(logits, target, t)
        self.ascend_temperature(all_gather(logits.detach()), all_gather(target))
        yield terms
