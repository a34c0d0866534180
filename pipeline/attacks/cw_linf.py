"""PGD on the Carlini-Wagner margin in the L-infinity ball, by foolbox with its loss replaced."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
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


def compute_margin(logits: Tensor, y: Tensor) -> Tensor:
    """max_{c != y} z_c - z_y for logits (B,K), labels (B,): (B,), positive where misclassified.

    The untargeted form of f_6 without its floor (Carlini and Wagner, S&P 2017, Sec. V-A), maximised
    in a fixed ball by PGD (Madry et al., ICLR 2018, Sec. 5).
    """
    own = torch.nn.functional.one_hot(y, logits.shape[1]).bool()
    rival = logits.masked_fill(own, -torch.inf).amax(1)
    return rival - logits.gather(1, y[:, None]).squeeze(1)


def make_margin_loss(model: Callable, labels: Any) -> Callable:
    """The loss that foolbox maximises: the batch's summed margin, on foolbox's own tensors."""
    import eagerpy

    return lambda inputs: eagerpy.astensor(compute_margin(model(inputs).raw, labels.raw).sum())


@dataclass(frozen=True)
class Attack:
    """L-infinity PGD-30 on the margin from a uniform start.

    Attributes:
        eps: radius, in pixels of [0,1]; several give a curve.
        steps: number of steps.
        step: size of a step, in pixels of [0,1], the same at every radius.
    """

    eps: Radii = 8 / 255
    steps: int = 30
    step: float = 2 / 255
    n_eval: int | None = None
    chunk: int = 500

    def __post_init__(self) -> None:
        check_steps(self.eps, self.step, self.steps)
        check_count("n_eval", self.n_eval)
        check_count("chunk", self.chunk)

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient per step, a check and the prediction, for every radius above 0."""
        return sum(2 * self.steps + 2 if eps else 1 for eps in list_radii(self.eps))

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) under the attack and eps for every radius."""
        attack = load_foolbox().attacks.LinfPGD(
            abs_stepsize=self.step, steps=self.steps, random_start=True
        )
        attack.get_loss_fn = make_margin_loss
        point = AttackPoint("cw_linf")
        return run_foolbox_attack(attack, model, x, y, seed, judge, eps=self.eps, point=point)
