"""Data-free distillation: DERD's first stage, and the student of every generator method."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from pipeline.batch import Batch, Roles, Terms
from pipeline.losses import kd_kl

REVISION = 1


def natural_logits(roles: Roles, batch: Batch) -> Tensor:
    """The natural teacher's logits (B,K) on the batch: the source's if it gives them."""
    if "t_clean" in batch.stored:
        return batch.stored["t_clean"]
    with torch.no_grad():
        return roles.teachers["natural"](batch.x)


@dataclass(frozen=True)
class Objective:
    """t^2 KL_t(T_nat(x) || S(x)) on generated images x (DERD, Sec. 3.2).

    Attributes:
        temperature: softens both outputs.
    """

    couples_batch: ClassVar[bool] = False

    temperature: float = 1.0

    def needs(self) -> tuple[str, ...]:
        """The natural teacher; its outputs come with a generator's batches."""
        return ("natural",)

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary with the term "kd", (B,) nats."""
        yield {"kd": kd_kl(roles.student(batch.x), natural_logits(roles, batch), self.temperature)}
