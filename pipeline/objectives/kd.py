"""Knowledge distillation (Hinton et al., 2015; DAD paper, eq. 1)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.losses import cross_entropy, kd_loss

REVISION = 1
COMPONENTS = ("pipeline.core.batch", "pipeline.core.losses")


@dataclass(frozen=True)
class Objective:
    """(1-alpha) CE(S(x), y) + alpha t^2 KL_t(T(x) || S(x)).

    Attributes:
        alpha: weight of the distillation; the cross-entropy has the rest.
        temperature: temperature of the softened outputs.
    """

    alpha: float = 0.5
    temperature: float = 4.0

    def needs(self) -> tuple[str, ...]:
        """Labels and the teacher's outputs."""
        return ("label", "t_clean")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        target = get_clean_teacher_logits(roles, batch)
        logits = roles.student(batch.x)
        yield {
            "ce": (1 - self.alpha) * cross_entropy(logits, batch.labels),
            "kd": self.alpha * kd_loss(logits, target, self.temperature),
        }
