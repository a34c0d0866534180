"""Data-free adversarial distillation (Fang et al., 2019): the student's half of the game."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import InnerAttack, declare_attack_options, iterate_training_views
from pipeline.core.losses import kl_divergence, logit_gap

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
    """mean_c |T(x)_c - S(x)_c| on logits of generated images; the generator maximises it.

    ``attack: rslad`` is its robust form: also on x* = argmax KL(T(x) || S(x')), weighted by alpha.

    Attributes:
        attack: "rslad" trains on x* as well, "none" on x alone.
        alpha: weight of the loss on x* under attack; the loss on x has the rest.
    """

    attack: Literal["none", "rslad"] = "none"
    alpha: float = 5 / 6
    inner_attack: InnerAttack = declare_attack_options(fixed=("start", "attack_bn"))

    def needs(self) -> tuple[str, ...]:
        """A generator and its teacher."""
        return ("generated", "teacher")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary with the term "kd", under attack also "kd_adv", (B,) in logits."""
        target = get_clean_teacher_logits(roles, batch)
        found = iterate_training_views(self, roles.student, batch, kl_divergence, reads=(target,))
        yield {name: weight * logit_gap(logits, target) for name, weight, logits in found}
