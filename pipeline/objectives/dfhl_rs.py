"""Robust model stealing with hard labels (Yuan et al., AAAI 2024): the clone's half."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.hardened import inner_of, views
from pipeline.core.losses import cross_entropy, entropy
from pipeline.core.pgd import ascend, frozen
from pipeline.core.threat_models import Free

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.hardened",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)


@dataclass(frozen=True)
class Objective:
    """CE(S(x_h), argmax T(x_h)): of the target only its label is read.

    x_h are high-entropy examples: x after sign steps up the clone's own entropy, in the image range
    alone. ``attack: rslad`` climbs that label's cross-entropy, since no outputs are to be had.

    Attributes:
        entropy_steps: steps up the entropy.
        entropy_step: their size, pixels in [0,1].
    """

    couples_batch: ClassVar[bool] = False

    entropy_steps: int = 10
    entropy_step: float = 0.03
    attack: Literal["none", "rslad"] = "none"
    alpha: float = 5 / 6
    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10

    def __post_init__(self):
        inner_of(self)

    def needs(self) -> tuple[str, ...]:
        """A generator and the target."""
        return ("generated", "teacher")

    def uncertain(self, student: nn.Module, x: Tensor) -> Tensor:
        """High-entropy examples (B,C,H,W) from images, detached."""
        with frozen(student):
            return ascend(
                x,
                lambda z: entropy(student(z)),
                Free(),
                steps=self.entropy_steps,
                step=self.entropy_step,
                start="clean",
            )

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary with the term "kd", under attack also "kd_adv", (B,) nats."""
        batch = replace(batch, x=self.uncertain(roles.student, batch.x))
        with torch.no_grad():
            label = roles.teacher(batch.x).argmax(1)
        found = views(self, roles.student, batch, lambda logits: cross_entropy(logits, label))
        yield {name: weight * cross_entropy(logits, label) for name, weight, logits in found}
