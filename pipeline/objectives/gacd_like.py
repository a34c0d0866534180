"""A stand-in for GACD, whose equations are not public (DARWIN, CVPR 2025, Table 1)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from torch import Tensor, nn, no_grad, randn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.collectives import all_gather, take_own_rows
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_examples_against,
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


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network in two halves."""

    def features(self, x: Tensor) -> Tensor:
        """Features (B,D) of images (B,C,H,W)."""

    def head(self, features: Tensor) -> Tensor:
        """Logits (B,K) of features (B,D)."""


def get_feature_network(network: nn.Module) -> FeatureNetwork:
    """The network itself, once it is known to have its two halves.

    Raises:
        TypeError: it has no ``features`` or no ``head``.
    """
    if not isinstance(network, FeatureNetwork):
        raise TypeError(f"{type(network).__name__}: has no features and head")
    return network


@dataclass(eq=False, repr=False)
class Objective(nn.Module):
    """An approximation: RSLAD plus beta max_c p_T(x)_c InfoNCE(T's feature of x, S's of x*).

    Learned projections map both features to 128 numbers; InfoNCE divides their cosines by
    ``temperature``. No label is read.

    Attributes:
        alpha: weight of the term on x*; the term on x has the rest.
        beta: weight of InfoNCE.
        temperature: number by which InfoNCE divides the cosines.
        kd_scale: factor of RSLAD's two terms.
    """

    inner_attack: InnerAttack = declare_attack_options()
    clean: CleanForward = declare_clean_forward()
    alpha: float = 5 / 6
    beta: float = 0.1
    temperature: float = 0.2
    kd_scale: float = 0.1
    needs_whole_batch: ClassVar[str] = "the other samples are InfoNCE's negatives"

    def __post_init__(self) -> None:
        super().__init__()
        self.anchor: nn.Parameter
        self.positive: nn.Parameter

    def needs(self) -> tuple[str, ...]:
        """A live teacher, for its features."""
        return ("teacher",)

    def prepare(self, roles: Roles, batch: Batch) -> None:
        """Draws the projections (D,128), D the widths of the models' features."""
        with no_grad(), freeze_modules(roles.student):
            found = [
                get_feature_network(m).features(batch.x) for m in (roles.teacher, roles.student)
            ]
        for name, z in zip(("anchor", "positive"), found, strict=True):
            weight = randn(z.shape[1], 128, generator=batch.rng, device=z.device, dtype=z.dtype)
            self.register_parameter(name, nn.Parameter(weight / z.shape[1] ** 0.5))

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, halves, teacher = (
            roles.student,
            get_feature_network(roles.student),
            get_feature_network(roles.teacher),
        )
        with no_grad():
            target = teacher.head(anchors := teacher.features(batch.x))
        x_adv = make_examples_against(self.inner_attack, batch, student, kl_divergence, target)
        features = halves.features(x_adv)
        all_anchors, all_positives = (
            all_gather(anchors @ self.anchor),
            all_gather(features @ self.positive),
        )
        contrast = take_own_rows(info_nce(all_anchors, all_positives, self.temperature))
        terms = compute_soft_label_terms(self, student, batch.x, halves.head(features), target)
        yield terms | {"contrast": self.beta * target.softmax(1).amax(1) * contrast}
