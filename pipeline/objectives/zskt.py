"""Zero-shot knowledge transfer (Micaelli and Storkey, NeurIPS 2019): the student's half."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch

from pipeline.core.attention import attention_gap, collect_attention_maps
from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import InnerAttack, declare_attack_options, iterate_training_views
from pipeline.core.losses import kl_divergence

REVISION = 1
COMPONENTS = (
    "pipeline.core.attention",
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)


@dataclass(frozen=True)
class Objective:
    """KL(T(x) || S(x)) + attention * L_AT on generated images.

    ``attack: rslad`` is its robust form: the KL also on x* = argmax KL(T(x) || S(x')), weighted by
    alpha; attention is compared on x alone.

    Attributes:
        attention: weight of the gap between both networks' attention maps; the paper's 250 is
            beside a mean over classes, and so 250 times the number of classes here.
        attack: "rslad" trains on x* as well, "none" on x alone.
        alpha: weight of the loss on x* under attack; the loss on x has the rest.
    """

    attention: float = 0.0
    attack: Literal["none", "rslad"] = "none"
    alpha: float = 5 / 6
    inner_attack: InnerAttack = declare_attack_options(fixed=("start", "attack_bn"))

    def needs(self) -> tuple[str, ...]:
        """A generator and its teacher."""
        return ("generated", "teacher")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary with the terms "kd", "kd_adv" under attack, (B,) nats, and "attention"."""
        if not self.attention:
            target = get_clean_teacher_logits(roles, batch)
            yield self.compute_kl_terms(roles, batch, target)
            return
        with torch.no_grad(), collect_attention_maps(roles.teacher) as teacher_maps:
            target = roles.teacher(batch.x)
        # The student's last forward is on x, so its maps are those of x.
        with collect_attention_maps(roles.student) as student_maps:
            terms = self.compute_kl_terms(roles, batch, target)
        yield terms | {"attention": self.attention * attention_gap(student_maps, teacher_maps)}

    def compute_kl_terms(self, roles: Roles, batch: Batch, target: torch.Tensor) -> Terms:
        """The KL's terms for the teacher's logits (B,K)."""
        found = iterate_training_views(self, roles.student, batch, kl_divergence, reads=(target,))
        return {name: weight * kl_divergence(logits, target) for name, weight, logits in found}
