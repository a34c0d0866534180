"""No attack: the predictions on the clean images."""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    check_count,
    check_model,
    predict_classes,
)

REVISION = 2
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")


@dataclass(frozen=True)
class Attack:
    """The clean images themselves; the result's eps is 0."""

    n_eval: int | None = None
    chunk: int = 1000

    def __post_init__(self) -> None:
        check_count("n_eval", self.n_eval)
        check_count("chunk", self.chunk)

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """One forward."""
        return 1

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) on x (B,C,H,W); y and seed play no part."""
        check_model(model)
        return {AttackPoint("clean"): predict_classes(judge or model, x)}
