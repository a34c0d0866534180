"""Data-free distillation: DERD's first stage, and the student of every generator method."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
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


def get_natural_logits(roles: Roles, batch: Batch) -> Tensor:
    """The natural teacher's logits (B,K) on the batch: the stored ones if there are any."""
    if "t_clean" in batch.stored:
        return batch.stored["t_clean"]
    with torch.no_grad():
        return roles.teachers["natural"](batch.x)


@dataclass(frozen=True)
class Objective:
    """t^2 KL_t(T(x) || S(x)) on generated images x (DERD, Sec. 3.2; DAFL and CMI likewise).

    Attributes:
        temperature: temperature t; it softens both outputs.
        attack: "rslad" trains on x* = argmax KL(T(x) || S(x')) as well, "none" on x alone.
        alpha: weight of the loss on x* under attack; the loss on x has the rest.
    """

    temperature: float = 1.0
    attack: Literal["none", "rslad"] = field(default="none", metadata={"neutral": "none"})
    alpha: float = field(default=5 / 6, metadata={"neutral": 5 / 6})
    inner_attack: InnerAttack = declare_attack_options(
        fixed=("start", "attack_bn"), neutral=("eps", "step", "steps")
    )

    def needs(self) -> tuple[str, ...]:
        """A generator and its teacher, whose outputs may come with the generator's batches."""
        return ("generated", "teacher")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary with the term "kd", under attack also "kd_adv", (B,) nats."""
        target, t = get_clean_teacher_logits(roles, batch), self.temperature
        found = iterate_training_views(self, roles.student, batch, kl_divergence, reads=(target,))
        yield {name: weight * kd_loss(logits, target, t) for name, weight, logits in found}
