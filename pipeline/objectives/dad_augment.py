"""DAD's samples as augmentation alone, without a teacher (Zhou et al., NeurIPS 2023, Table 6)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.losses import cross_entropy

REVISION = 1
COMPONENTS = ("pipeline.core.batch", "pipeline.core.losses")


@dataclass(frozen=True)
class Objective:
    """CE over equally many clean and bank images; a bank image has its source row's label."""

    def needs(self) -> tuple[str, ...]:
        """Labels, and the bank's samples with theirs."""
        return ("label", "x_adv", "y_adv")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        adversarial = roles.student(batch.stored["x_adv"])
        yield {
            "ce": cross_entropy(roles.student(batch.x), batch.labels) / 2,
            "ce_adv": cross_entropy(adversarial, batch.stored["y_adv"]) / 2,
        }
