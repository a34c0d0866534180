"""DAD with DAT's samples of the student beside the bank's (Zhou et al., NeurIPS 2023, Table 1)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import (
    Batch,
    Roles,
    Terms,
    get_adversarial_teacher_logits,
    get_clean_teacher_logits,
)
from pipeline.core.inner_attack import InnerAttack, declare_attack_options
from pipeline.core.losses import cross_entropy, kd_loss
from pipeline.objectives.dat import make_discrete_adversary

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.objectives.dat",
)


@dataclass(frozen=True)
class Objective:
    """DAD's eq. 9 + alpha CE(S(x~_S), y), x~_S generated at each step against the student.

    The bank's x~ attacks the teacher and has no label; x~_S attacks the student and has one.

    Attributes:
        alpha: weight of each term beside the cross-entropy on clean images.
        temperature: temperature of the softened outputs.
        start_probability: chance that a sample starts at a random point of the ball, not at Q(x).
    """

    alpha: float = 0.5
    temperature: float = 4.0
    inner_attack: InnerAttack = declare_attack_options(
        InnerAttack(0.1, 0.1, 1, attack_bn="train", norm="l2"), fixed=("start",)
    )
    start_probability: float = 0.8

    def needs(self) -> tuple[str, ...]:
        """Labels, the bank's samples, the teacher's outputs on both, and the discretizer Q."""
        return ("label", "x_adv", "t_clean", "t_adv", "discretizer")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        target, target_adv = (
            get_clean_teacher_logits(roles, batch),
            get_adversarial_teacher_logits(roles, batch),
        )
        x_own = make_discrete_adversary(self, roles, batch)
        logits = roles.student(batch.x)
        logits_adv = roles.student(batch.stored["x_adv"])
        yield {
            "ce": cross_entropy(logits, batch.labels),
            "kd": self.alpha * kd_loss(logits, target, self.temperature),
            "dad": self.alpha * kd_loss(logits_adv, target_adv, self.temperature),
            "ce_adv": self.alpha * cross_entropy(roles.student(x_own), batch.labels),
        }
