"""DIST: relations instead of values (Huang et al., NeurIPS 2022; DAD paper, Table 3)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.collectives import all_gather
from pipeline.core.losses import cross_entropy

REVISION = 1
COMPONENTS = ("pipeline.core.batch", "pipeline.core.losses")


def pearson_correlation(a: Tensor, b: Tensor, dim: int) -> Tensor:
    """Pearson's correlation of two matrices along a dimension, which is dropped."""
    return F.cosine_similarity(a - a.mean(dim, True), b - b.mean(dim, True), dim)


@dataclass(frozen=True)
class Objective:
    """CE(S(x), y) + t^2 [beta (1 - mean_i r_i) + gamma (1 - mean_c r_c)], softmax at temperature t.

    r_i is Pearson's correlation of S's and T's probabilities of sample i; r_c that of their
    probabilities of class c over the batch.

    Attributes:
        beta: weight of the rows' relation.
        gamma: weight of the columns' relation.
        temperature: temperature t of both softmax outputs.
    """

    beta: float = 1.0
    gamma: float = 1.0
    temperature: float = 1.0
    needs_whole_batch: ClassVar[str] = "it correlates over the samples"

    def needs(self) -> tuple[str, ...]:
        """Labels and the teacher's outputs."""
        return ("label", "t_clean")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        t = self.temperature
        teacher = (get_clean_teacher_logits(roles, batch) / t).softmax(1)
        logits = roles.student(batch.x)
        student = (logits / t).softmax(1)
        columns = 1 - pearson_correlation(all_gather(student), all_gather(teacher), 0).mean()
        yield {
            "ce": cross_entropy(logits, batch.labels),
            "rows": self.beta * t * t * (1 - pearson_correlation(student, teacher, 1)),
            "columns": (self.gamma * t * t * columns).expand(len(logits)),
        }
