"""Robust model stealing with hard labels (Yuan et al., AAAI 2024): the clone's half."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import InnerAttack, declare_attack_options, iterate_training_views
from pipeline.core.losses import cross_entropy, softmax_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.threat_models import Unconstrained, check_radius

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)


@dataclass(frozen=True)
class Objective:
    """CE(S(x_h), argmax T(x_h)): of the target only its label is read.

    x_h are high-entropy examples: x after sign steps up the clone's own entropy, bounded only
    by the image range. ``attack: rslad`` climbs that label's cross-entropy, since the target gives
    no outputs.

    Attributes:
        entropy_steps: number of steps up the entropy.
        entropy_step: size of such a step, in pixels of [0,1].
        attack: "rslad" trains on x* as well, "none" on x alone.
        alpha: weight of the loss on x* under attack; the loss on x has the rest.
    """

    entropy_steps: int = 10
    entropy_step: float = 0.03
    attack: Literal["none", "rslad"] = "none"
    alpha: float = 5 / 6
    inner_attack: InnerAttack = declare_attack_options(fixed=("start", "attack_bn"))

    def __post_init__(self) -> None:
        check_radius("entropy_step", self.entropy_step)

    def needs(self) -> tuple[str, ...]:
        """A generator and the target."""
        return ("generated", "teacher")

    def make_high_entropy_examples(self, student: nn.Module, batch: Batch) -> Tensor:
        """High-entropy examples (B,C,H,W) from a batch's images, detached."""
        with freeze_modules(student):
            return run_pgd(
                batch.x,
                lambda z: softmax_entropy(student(z)),
                Unconstrained(),
                steps=self.entropy_steps,
                step_size=self.entropy_step,
                start="clean",
                dtype=batch.attack_dtype,
            )

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary with the term "kd", under attack also "kd_adv", (B,) nats."""
        batch = replace(batch, x=self.make_high_entropy_examples(roles.student, batch))
        with torch.no_grad():
            label = roles.teacher(batch.x).argmax(1)
        found = iterate_training_views(
            self, roles.student, batch, lambda logits: cross_entropy(logits, label)
        )
        yield {name: weight * cross_entropy(logits, label) for name, weight, logits in found}
