"""The fast gradient sign method (Goodfellow et al., ICLR 2015), by foolbox."""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    Radii,
    check_count,
    check_radii,
    list_radii,
    load_foolbox,
    run_foolbox_attack,
)

REVISION = 2
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")


@dataclass(frozen=True)
class Attack:
    """One step of size eps along the sign of the cross-entropy's gradient, from the clean image.

    Attributes:
        eps: L-infinity radius, in pixels of [0,1]; several give a curve.
    """

    eps: Radii = 8 / 255
    n_eval: int | None = None
    chunk: int = 500

    def __post_init__(self) -> None:
        check_radii(self.eps)
        check_count("n_eval", self.n_eval)
        check_count("chunk", self.chunk)

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient, the library's check and the prediction, for every radius above 0."""
        return sum(4 if eps else 1 for eps in list_radii(self.eps))

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) under the attack and eps for every radius; seed plays no part."""
        attack = load_foolbox().attacks.LinfFastGradientAttack(random_start=False)
        point = AttackPoint("fgsm")
        return run_foolbox_attack(attack, model, x, y, seed, judge, eps=self.eps, point=point)
