"""DERD's generator losses (ACM MM 2024 submission, Sec. 3.2)."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from pipeline.core.batch import Terms
from pipeline.core.losses import cross_entropy
from pipeline.data_free.teacher_view import (
    GeneratedBatch,
    activation_loss,
    compute_balance_term,
    compute_statistics_term,
    one_hot_loss,
)

REVISION = 2
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)


@dataclass(frozen=True)
class Loss:
    """L_G = oh L_oh + activation L_a + bn L_BN + balance L_ie (eq. 11).

    L_BN is dropped for a teacher without BatchNorm. DERD prints no weights: these are DAFL's for
    CIFAR-10, and CMI's for the statistics. DAFL's code takes the entropy's logarithm to base 10:
    its weights 5 (CIFAR-10) and 20 (CIFAR-100) are 5 / ln 10 = 2.171 and 20 / ln 10 = 8.686 per
    nat.

    Attributes:
        oh: weight of the cross-entropy against the label.
        activation: weight of the teacher's activations.
        bn: weight of the gap of BatchNorm statistics.
        balance: weight of the balance of classes in a batch, per nat of entropy.
        labels: labels of L_oh: the teacher's "own" prediction, or those "given" by the noise.
    """

    rounds: ClassVar[bool] = False

    oh: float = 0.05
    activation: float = 0.01
    bn: float = 1.0
    balance: float = 2.171
    labels: Literal["own", "given"] = "own"

    def needs(self) -> tuple[str, ...]:
        """The teacher alone."""
        return ("teacher",)

    def __call__(self, batch: GeneratedBatch) -> Terms:
        """The weighted terms (B,), all in nats except L_a and L_BN."""
        given = self.labels == "given"
        oh = cross_entropy(batch.logits, batch.y) if given else one_hot_loss(batch.logits)
        terms = {
            "oh": self.oh * oh,
            "activation": self.activation * activation_loss(batch.features),
        }
        return (
            terms
            | compute_balance_term(batch.logits, self.balance)
            | compute_statistics_term(batch, self.bn)
        )
