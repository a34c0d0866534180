"""The image loss of robust model stealing with hard labels (Yuan et al., AAAI 2024)."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.core.batch import Terms
from pipeline.core.losses import cross_entropy
from pipeline.data_free.teacher_view import GeneratedBatch, compute_balance_term

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)


@dataclass(frozen=True)
class Loss:
    """CE_smoothed(S(x), y) + balance L_ie(S(x)), y given; the target model is not queried.

    Attributes:
        smoothing: share of a label spread over all classes.
        balance: weight of the balance of classes in a batch.
    """

    rounds: ClassVar[bool] = True

    smoothing: float = 0.2
    balance: float = 3.0

    def needs(self) -> tuple[str, ...]:
        """The student (the clone) alone."""
        return ("student",)

    def __call__(self, batch: GeneratedBatch) -> Terms:
        """The weighted terms (B,), nats."""
        logits = batch.student(batch.x)
        return {"oh": cross_entropy(logits, batch.y, self.smoothing)} | compute_balance_term(
            logits, self.balance
        )
