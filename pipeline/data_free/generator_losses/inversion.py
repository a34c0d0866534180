"""The loss of model inversion, which optimises pixels (DeepInversion, Yin et al., CVPR 2020)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from pipeline.core.batch import Terms
from pipeline.core.losses import cross_entropy
from pipeline.data_free.teacher_view import GeneratedBatch, compute_statistics_term

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.losses",
    "pipeline.data_free.teacher_view",
    "pipeline.models.generator",
)

MID_GREY = 0.5


def total_variation(x: Tensor) -> Tensor:
    """Mean squared difference (B,) of a pixel from its right and lower neighbours."""
    across, down = x.diff(dim=3).square(), x.diff(dim=2).square()
    return across.flatten(1).mean(1) + down.flatten(1).mean(1)


@dataclass(frozen=True)
class Loss:
    """oh CE(T(x), y) + bn L_BN + tv TV(x) + l2 mean (x - 1/2)^2, y given.

    TV and L2 are means over pixels in [0,1], so that their weights hold at any image size. The
    weights are our own choice.

    Attributes:
        oh: weight of the cross-entropy against the label.
        bn: weight of the gap of BatchNorm statistics.
        tv: weight of the total variation.
        l2: weight of the squared distance from grey.
    """

    rounds: ClassVar[bool] = True

    oh: float = 1.0
    bn: float = 1.0
    tv: float = 1.0
    l2: float = 0.01

    def needs(self) -> tuple[str, ...]:
        """The teacher alone."""
        return ("teacher",)

    def __call__(self, batch: GeneratedBatch) -> Terms:
        """The weighted terms (B,)."""
        return {
            "oh": self.oh * cross_entropy(batch.logits, batch.y),
            "tv": self.tv * total_variation(batch.x),
            "l2": self.l2 * (batch.x - MID_GREY).square().flatten(1).mean(1),
        } | compute_statistics_term(batch, self.bn)
