"""The image loss of robust model stealing with hard labels (Yuan et al., AAAI 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F

from pipeline.core.batch import Terms
from pipeline.core.losses import cross_entropy
from pipeline.data_free.teacher_view import GeneratedBatch, compute_balance_term

REVISION = 2
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)


@dataclass(frozen=True)
class Loss:
    """CE_smoothed(S(x), y) + balance L_ie(S(x)), y given; the target model is not queried.

    As in the released code, the generator goes on from round to round. That code takes the
    entropy's logarithm to base 10; its weight 3 is 3 / ln 10 = 1.303 per nat.

    Attributes:
        smoothing: share of a label spread evenly over the other classes.
        balance: weight of the balance of classes in a batch, per nat of entropy.
    """

    rounds: ClassVar[bool] = True
    generator_start: ClassVar[str] = "kept"

    smoothing: float = 0.2
    balance: float = 1.303

    def needs(self) -> tuple[str, ...]:
        """The student (the clone) alone."""
        return ("student",)

    def __call__(self, batch: GeneratedBatch) -> Terms:
        """The weighted terms (B,), nats."""
        logits = batch.student(batch.x)
        rest = self.smoothing / (logits.shape[1] - 1)
        label = F.one_hot(batch.y, logits.shape[1]).to(logits)
        target = rest + (1 - self.smoothing - rest) * label
        return {"oh": cross_entropy(logits, target)} | compute_balance_term(logits, self.balance)
