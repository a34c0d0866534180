"""Plain supervised training (empirical risk minimisation; Vapnik, NIPS 1991)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.losses import cross_entropy

REVISION = 1
COMPONENTS = ("pipeline.core.batch", "pipeline.core.losses")


@dataclass(frozen=True)
class Objective:
    """CE(S(x), y)."""

    def needs(self) -> tuple[str, ...]:
        """Labels."""
        return ("label",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        yield {"ce": cross_entropy(roles.student(batch.x), batch.labels)}
