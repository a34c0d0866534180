"""DARWIN without labels (Dong et al., CVPR 2025, eqs. 11-12)."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.inner_attack import InnerAttack, declare_attack_options
from pipeline.core.losses import kl_divergence
from pipeline.core.pairing import (
    pair_different_labels,
    pair_different_rankings,
    pair_distant_outputs,
)
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

    Pairs are redrawn while the teacher ranks the same ``top_k`` classes highest, in one order, or
    with ``pairing="l1"`` while its outputs differ by 1/C or less. Losses, weights, cost
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
        pairing: what parts partners: the teacher's likeliest classes ("top_k"), or an L1 distance
            above 1/C of its outputs ("l1").
        top_k: number of likeliest classes that "top_k" compares.

    Raises:
        ValueError: a hyper-parameter that cannot be meant.
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
    pairing: Literal["top_k", "l1"] = field(default="top_k", metadata={"neutral": "top_k"})
    top_k: int = field(default=1, metadata={"neutral": 1})
    needs_whole_batch: ClassVar[str] = "eq. 5's maximum and the pairs are those of the batch"

    def __post_init__(self) -> None:
        super().__init__()
        self.register_module("auxiliary", None)
        check_hyperparameters(self)
        if self.top_k < 1:
            raise ValueError(f"top_k: {self.top_k} classes part nothing; give at least 1")

    def draw_pairs(self, classes: Tensor, p: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Each row's partner (N,) and whether the two are apart (N,), from T's outputs p (N,K)."""
        if self.pairing == "l1":
            return pair_distant_outputs(p, rng)
        if self.top_k == 1:
            return pair_different_labels(classes, rng)
        return pair_different_rankings(p, min(self.top_k, p.shape[1]), rng)

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
            self,
            roles,
            batch,
            Supervision(target, target.argmax(1), target, inner, self.draw_pairs),
        )
