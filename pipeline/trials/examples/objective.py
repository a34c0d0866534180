"""Objective: cross-entropy and the squared distance to the teacher's logits."""

from dataclasses import dataclass

from pipeline.core.batch import get_clean_teacher_logits
from pipeline.core.losses import cross_entropy


@dataclass(frozen=True)
class Objective:
    """The fields are its options in the configuration; each has a type and a default."""

    weight: float = 0.5

    def needs(self):
        """What it reads: `label`, `t_clean` (a teacher's outputs), `teacher`, `x_adv` (a bank)."""
        return ("label", "t_clean")

    def __call__(self, roles, batch):
        """Terms of batch.x (B,C,H,W) in [0,1]: one value a sample, (B,), already weighted."""
        target, logits = get_clean_teacher_logits(roles, batch), roles.student(batch.x)
        yield {
            "ce": cross_entropy(logits, batch.labels),
            "distance": self.weight * (logits - target).square().mean(1),
        }
