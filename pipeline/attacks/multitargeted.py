"""MultiTargeted (Gowal et al., arXiv:1910.09338): PGD towards one class after another."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    check_count,
    check_model,
    check_steps,
    predict_classes,
)
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.threat_models import Linf

REVISION = 1
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")


@dataclass(frozen=True)
class Attack:
    """L-infinity PGD from a uniform start on z_t - z_y, for each of the likeliest classes t.

    Attributes:
        eps: radius, in pixels of [0,1].
        steps: number of steps.
        step: size of a step, in pixels of [0,1].
        targets: number of classes that are tried, the clean image's likeliest first; all others
            where there are fewer.
        restarts: number of starts for each class.
    """

    eps: float = 8 / 255
    steps: int = 50
    step: float = 2 / 255
    targets: int = 9
    restarts: int = 1
    n_eval: int | None = None
    chunk: int = 200

    def __post_init__(self) -> None:
        check_steps(self.eps, self.step, self.steps)
        for name in ("targets", "restarts", "n_eval", "chunk"):
            check_count(name, getattr(self, name))

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient per step and a check, for every class and start."""
        return self.targets * self.restarts * (2 * self.steps + 1) + 2

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) on the first image that some class and start make wrong, else on x."""
        check_model(model)
        rng = torch.Generator(x.device).manual_seed(seed)
        with freeze_modules(model):
            with torch.no_grad():
                logits = model(x)
            ranked = logits.scatter(1, y[:, None], -torch.inf).argsort(1, descending=True)
            images, is_right = x.clone(), logits.argmax(1) == y
            for target in ranked[:, : min(self.targets, logits.shape[1] - 1)].unbind(1):
                for _ in range(self.restarts):
                    found = self.attack_class(model, x, y, target, rng)
                    is_broken = is_right & (predict_classes(model, found) != y)
                    images = torch.where(is_broken[:, None, None, None], found, images)
                    is_right &= ~is_broken
        point = AttackPoint(
            "multitargeted", float(self.eps), self.steps, self.step, restarts=self.restarts
        )
        return {point: predict_classes(judge or model, images)}

    def attack_class(
        self, model: nn.Module, x: Tensor, y: Tensor, target: Tensor, rng: torch.Generator
    ) -> Tensor:
        """Images (B,C,H,W) driven from their labels y (B,) towards classes ``target`` (B,)."""

        def lead(z: Tensor) -> Tensor:
            logits = model(z)
            return (logits.gather(1, target[:, None]) - logits.gather(1, y[:, None]))[:, 0]

        return run_pgd(
            x,
            lead,
            Linf(self.eps),
            steps=self.steps,
            step_size=self.step,
            start="uniform",
            rng=rng,
        )
