"""Data-free learning of student networks (Chen et al., ICCV 2019), with DataFree's weights."""

from dataclasses import dataclass
from typing import ClassVar

from pipeline.core.batch import Terms
from pipeline.data_free.teacher_view import (
    GeneratedBatch,
    activation_loss,
    compute_balance_term,
    compute_disagreement,
    one_hot_loss,
)

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)


@dataclass(frozen=True)
class Loss:
    """oh L_oh + activation L_a + balance L_ie - adv KL(T(x) || S(x)).

    The last term is an option of DataFree; its default weight is 0, as in the paper. DataFree's
    code computes L_ie by the natural logarithm, so that its weight 20 is per nat as it stands; only
    DAFL's own code has base 10.

    Attributes:
        oh: weight of the cross-entropy against the teacher's own prediction.
        activation: weight of the teacher's activations.
        balance: weight of the balance of classes in a batch, per nat of entropy.
        adv: weight of the disagreement of teacher and student.
    """

    rounds: ClassVar[bool] = False

    oh: float = 1.0
    activation: float = 0.001
    balance: float = 20.0
    adv: float = 0.0

    def needs(self) -> tuple[str, ...]:
        """The teacher, and the student where the adversarial term has a weight."""
        return ("teacher", "student") if self.adv else ("teacher",)

    def __call__(self, batch: GeneratedBatch) -> Terms:
        """The weighted terms (B,)."""
        terms = {
            "oh": self.oh * one_hot_loss(batch.logits),
            "activation": self.activation * activation_loss(batch.features),
        } | compute_balance_term(batch.logits, self.balance)
        return terms | ({"adv": -self.adv * compute_disagreement(batch)} if self.adv else {})
