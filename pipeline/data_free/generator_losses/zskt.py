"""Zero-shot knowledge transfer's generator (Micaelli and Storkey, NeurIPS 2019)."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.core.batch import Terms
from pipeline.data_free.teacher_view import GeneratedBatch, compute_disagreement

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)


@dataclass(frozen=True)
class Loss:
    """-adv KL(T(x) || S(x)); favours images where the student is most wrong.

    Attributes:
        adv: weight of the disagreement of teacher and student.
    """

    rounds: ClassVar[bool] = False

    adv: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """Both teacher and student."""
        return ("teacher", "student")

    def __call__(self, batch: GeneratedBatch) -> Terms:
        """One term (B,), nats."""
        return {"adv": -self.adv * compute_disagreement(batch)}
