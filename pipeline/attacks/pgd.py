"""Projected gradient ascent on the cross-entropy (Madry et al., ICLR 2018), by foolbox."""

from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    Radii,
    check_count,
    check_steps,
    list_radii,
    load_foolbox,
    run_foolbox_attack,
)

REVISION = 2
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")

NOISE_STD = 0.001


def add_gaussian_noise(x0: Any, epsilon: float) -> Any:
    """x0 + 0.001 N(0, I), as TRADES starts; foolbox's tensors. The first step projects."""
    return x0 + x0.normal(x0.shape, stddev=NOISE_STD)


@dataclass(frozen=True)
class Attack:
    """L-infinity PGD from a random start.

    Attributes:
        eps: radius, in pixels of [0,1]; several give a curve.
        steps: number of steps.
        step: size of a step, in pixels of [0,1], the same at every radius.
        restarts: number of starts; a sample counts as attacked if any of them succeeds.
        start: "uniform" in the ball, or "gauss", a deviation of 0.001 (TRADES; DERD's PGD_T).
    """

    eps: Radii = 8 / 255
    steps: int = 20
    step: float = 2 / 255
    restarts: int = 1
    n_eval: int | None = None
    chunk: int = 500
    start: Literal["uniform", "gauss"] = field(default="uniform", metadata={"neutral": "uniform"})

    def __post_init__(self) -> None:
        check_steps(self.eps, self.step, self.steps)
        check_count("restarts", self.restarts)
        check_count("n_eval", self.n_eval)
        check_count("chunk", self.chunk)

    @property
    def describe_point(self) -> AttackPoint:
        """The point that carries these settings, at radius 0."""
        return AttackPoint(
            "pgd", steps=self.steps, step=self.step, start=self.start, restarts=self.restarts
        )

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient per step and the predictions, for every radius above 0."""
        steps = self.restarts * (2 * self.steps + 1) + 1
        return sum(steps if eps else 1 for eps in list_radii(self.eps))

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) at ``describe_point`` with each radius."""
        attack = load_foolbox().attacks.LinfPGD(
            abs_stepsize=self.step, steps=self.steps, random_start=True
        )
        if self.start == "gauss":
            attack.get_random_start = add_gaussian_noise
        if self.restarts > 1:
            attack = attack.repeat(self.restarts)
        return run_foolbox_attack(
            attack, model, x, y, seed, judge, eps=self.eps, point=self.describe_point
        )
