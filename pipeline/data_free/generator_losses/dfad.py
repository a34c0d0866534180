"""Data-free adversarial distillation's generator (Fang et al., 2019)."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.core.batch import Terms
from pipeline.core.losses import logit_gap
from pipeline.data_free.teacher_view import GeneratedBatch

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)


@dataclass(frozen=True)
class Loss:
    """-adv mean_c |T(x)_c - S(x)_c| on logits; favours images where the student is most wrong.

    Attributes:
        adv: weight of the disagreement of teacher and student.
    """

    rounds: ClassVar[bool] = False

    adv: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """Both teacher and student."""
        return ("teacher", "student")

    def __call__(self, batch: GeneratedBatch) -> Terms:
        """One term (B,), in logits."""
        return {"adv": -self.adv * logit_gap(batch.student(batch.x), batch.logits)}
