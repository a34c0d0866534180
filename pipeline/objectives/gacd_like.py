"""A stand-in for GACD, whose equations are not public (DARWIN, CVPR 2025, Table 1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from torch import nn, no_grad, randn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.collectives import all_gather, take_own_rows
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_adversarial_examples,
)
from pipeline.core.losses import info_nce, kl_divergence
from pipeline.core.pgd import freeze_modules
from pipeline.objectives.rslad import compute_soft_label_terms

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.objectives.rslad",
)


@dataclass(eq=False, repr=False)
class Objective(nn.Module):
    """An approximation: RSLAD plus beta max_c p_T(x)_c InfoNCE(T's feature of x, S's of x*).

    Learned projections map both features to 128 numbers; InfoNCE divides their cosines by
    ``temperature``. No label is read.
    """

    inner_attack: InnerAttack = declare_attack_options()
    alpha: float = 5 / 6
    beta: float = 0.1
    temperature: float = 0.2
    kd_scale: float = 0.1
    needs_whole_batch: ClassVar[bool] = True  # the other samples are InfoNCE's negatives

    def __post_init__(self):
        super().__init__()

    def needs(self) -> tuple[str, ...]:
        """A live teacher, for its features."""
        return ("teacher",)

    def prepare(self, roles: Roles, batch: Batch) -> None:
        """Draws the projections (D,128), D the widths of the models' features."""
        with no_grad(), freeze_modules(roles.student):
            found = roles.teacher.features(batch.x), roles.student.features(batch.x)
        for name, z in zip(("anchor", "positive"), found, strict=True):
            weight = randn(z.shape[1], 128, generator=batch.rng, device=z.device, dtype=z.dtype)
            self.register_parameter(name, nn.Parameter(weight / z.shape[1] ** 0.5))

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, teacher = roles.student, roles.teacher
        with no_grad():
            target = teacher.head(anchors := teacher.features(batch.x))
        x_adv = make_adversarial_examples(
            self.inner_attack, batch, lambda z: kl_divergence(student(z), target), student
        )
        features = student.features(x_adv)
        pairs = (all_gather(z) for z in (anchors @ self.anchor, features @ self.positive))
        contrast = take_own_rows(info_nce(*pairs, self.temperature))
        terms = compute_soft_label_terms(self, student.head(features), student(batch.x), target)
        yield terms | {"contrast": self.beta * target.softmax(1).amax(1) * contrast}
