"""In the manner of DFARD's adaptive generator balance (Wang et al., AAAI 2024)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.core.batch import Terms
from pipeline.core.threat_models import MIN_NORM
from pipeline.data_free.teacher_view import (
    GeneratedBatch,
    compute_balance_term,
    compute_disagreement,
    compute_statistics_term,
    one_hot_loss,
)

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.core.threat_models",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)

TERM_NAMES = ("oh", "adv", "balance", "bn")


@dataclass(eq=False, repr=False)
class Loss(nn.Module):
    """n (1/e_k) / sum_j (1/e_j) times each of L_oh, -KL(T || S), L_ie, L_BN; an approximation.

    e_k is a moving average of |L_k| with ``decay``, so that the n terms have equal weight. DFARD's
    own equations are not public: this is not its method.

    Attributes:
        decay: decay of the moving average of each term's size.
    """

    rounds: ClassVar[bool] = False

    decay: float = 0.9

    def __post_init__(self):
        super().__init__()
        self.register_buffer("sizes", torch.zeros(len(TERM_NAMES), dtype=torch.float64))

    def needs(self) -> tuple[str, ...]:
        """Both teacher and student."""
        return ("teacher", "student")

    @torch.no_grad()
    def compute_term_weights(self, terms: Terms) -> Tensor:
        """One weight for each term, in order; first updates the averages with the terms."""
        positions = [TERM_NAMES.index(name) for name in terms]
        new = torch.stack([value.mean().abs() for value in terms.values()]).double()
        old = self.sizes[positions]
        self.sizes[positions] = torch.where(old > 0, old.lerp(new, 1 - self.decay), new)
        shares = 1 / self.sizes[positions].clamp_min(MIN_NORM)
        return len(terms) * shares / shares.sum()

    def forward(self, batch: GeneratedBatch) -> Terms:
        """The weighted terms (B,)."""
        terms = {"oh": one_hot_loss(batch.logits), "adv": -compute_disagreement(batch)}
        terms |= compute_balance_term(batch.logits, 1.0) | compute_statistics_term(batch, 1.0)
        weights = self.compute_term_weights(terms).to(batch.x)
        return {name: w * v for (name, v), w in zip(terms.items(), weights, strict=True)}
