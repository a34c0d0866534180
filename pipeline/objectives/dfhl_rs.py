"""Robust model stealing with hard labels (Yuan et al., AAAI 2024): the clone's half."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.core.augment import strong_augment
from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.collectives import repeat_for_ranks, take_own_rows
from pipeline.core.inner_attack import (
    InnerAttack,
    PathSettings,
    climb_loss,
    declare_attack_options,
    iterate_training_views,
)
from pipeline.core.losses import cross_entropy, softmax_entropy
from pipeline.core.pgd import GAUSS_SCALE, freeze_modules
from pipeline.core.threat_models import Unconstrained, check_radius

REVISION = 3
COMPONENTS = (
    "pipeline.core.augment",
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.seeding",
    "pipeline.core.threat_models",
)


@dataclass(frozen=True)
class Objective:
    """CE(S(x_h), argmax T(x_h)): of the target only its label is read.

    x_h are high-entropy examples: sign steps up the clone's own entropy, bounded only by the image
    range, from x' + 0.001 N(0, I), where x' is x after one strong augmentation of the whole batch.
    ``attack: rslad`` climbs that label's cross-entropy, since the target gives no outputs.

    Attributes:
        strong_augment: whether x' is the released code's ``strong_aug`` of x, or x itself. What the
            recipe's ``augment`` says comes before; the released code has ``crop_flip``.
        entropy_steps: number of steps up the entropy.
        entropy_step: size of such a step, in pixels of [0,1].
        attack: "rslad" trains on x* as well, "none" on x alone.
        alpha: weight of the loss on x* under attack; the loss on x has the rest.
    """

    needs_whole_batch: ClassVar[str] = "one strong augmentation is drawn for the whole batch"

    strong_augment: bool = True
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
        x = strong_augment(batch.x, batch.rng) if self.strong_augment else batch.x
        shape, rng = repeat_for_ranks(x).shape, batch.rng
        noise = torch.randn(shape, generator=rng, device=x.device, dtype=x.dtype)
        start = x + GAUSS_SCALE * take_own_rows(noise)
        settings = PathSettings(
            Unconstrained(), self.entropy_steps, self.entropy_step, dtype=batch.attack_dtype
        )

        def compute_entropy(z: Tensor) -> Tensor:
            return softmax_entropy(student(z))

        with freeze_modules(student):
            return climb_loss(settings, x, compute_entropy, (student,), start, batch.ascents, ())

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary with the term "kd", under attack also "kd_adv", (B,) nats."""
        batch = replace(batch, x=self.make_high_entropy_examples(roles.student, batch))
        with torch.no_grad():
            label = roles.teacher(batch.x).argmax(1)
        found = iterate_training_views(self, roles.student, batch, cross_entropy, reads=(label,))
        yield {name: weight * cross_entropy(logits, label) for name, weight, logits in found}
