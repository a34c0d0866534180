"""DARWIN without labels (Dong et al., CVPR 2025, eqs. 11-12)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import InnerAttack, declare_attack_options
from pipeline.core.losses import kl_divergence
from pipeline.models.auxiliary_batchnorm import AuxiliaryBatchNorm
from pipeline.objectives.darwin import Supervision, check_hyperparameters, compute_darwin_terms

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pairing",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.models.auxiliary_batchnorm",
    "pipeline.objectives.darwin",
)


@dataclass(eq=False)
class Objective(nn.Module):
    """DARWIN guided by the teacher: x^_i climbs, x^'_i descends KL(T(x) || S), y := argmax p_T(x).

    Pairs are redrawn while the teacher gives both images the same class. Losses, weights, cost
    and all other fields are ``objectives/darwin``'s; ``inner_kl="reverse"`` attacks by
    KL(S || T(x)), as the paper prints it.

    Attributes:
        beta: weight of the teacher's term at the last sample.
        gamma: share of the confidence gap in the weight of a step; the step's place has the rest.
        margin: margin of the triplet loss.
        lambda_iakd: weight of the teacher's terms at intermediate samples.
        lambda_dbkd: weight of the triplet loss.
        iakd: whether the teacher's terms at intermediate samples are there.
        dbkd: whether the triplet loss and the targeted path are there.
        weighting: how steps are weighed: by place and gap, or all by 1 ("uniform").
        target_source: where x' descends to: the class of x ("pair") or, as Algorithm 1 has it, its
            own.
        inner_kl: direction of the attacks' KL: "forward" is KL(T(x) || S), "reverse" is KL(S ||
            T(x)), as printed.
    """

    inner_attack: InnerAttack = declare_attack_options()
    beta: float = 4.0
    gamma: float = 0.5
    margin: float = 0.1
    lambda_iakd: float = 1.0
    lambda_dbkd: float = 0.5
    iakd: bool = True
    dbkd: bool = True
    weighting: Literal["mixed", "uniform"] = "mixed"
    target_source: Literal["pair", "own"] = "pair"
    inner_kl: Literal["forward", "reverse"] = "forward"
    needs_whole_batch: ClassVar[bool] = True  # eq. 5's maximum, and the pairs

    def __post_init__(self) -> None:
        super().__init__()
        self.register_module("auxiliary", None)
        check_hyperparameters(self)

    def prepare(self, roles: Roles, batch: Batch) -> None:
        """Creates the auxiliary BatchNorms; ``fit`` calls this before it builds the optimiser."""
        self.auxiliary = AuxiliaryBatchNorm(roles.student) if self.dbkd else None

    def needs(self) -> tuple[str, ...]:
        """A live teacher; no labels."""
        return ("teacher",)

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """The same dictionaries as DARWIN's."""
        target = get_clean_teacher_logits(roles, batch)
        inner = kl_divergence if self.inner_kl == "forward" else lambda s, t: kl_divergence(t, s)
        return compute_darwin_terms(
            self, roles, batch, Supervision(target, target.argmax(1), target, inner)
        )
