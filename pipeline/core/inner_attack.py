"""The inner maximisation that adversarial methods share: the student attacked before its update."""

from collections.abc import Callable
from typing import Literal, Protocol

from torch import Tensor, nn

from pipeline.core.batch import Batch
from pipeline.core.pgd import Start, ascend, attacked
from pipeline.core.threat_models import Linf

REVISION = 1


class Attack(Protocol):
    """What an objective that attacks has among its fields; radii and steps in [0,1] pixels."""

    eps: float
    step: float
    steps: int
    start: Start
    attack_bn: Literal["eval", "train"]


def perturbed(
    attack: Attack,
    batch: Batch,
    loss: Callable[[Tensor], Tensor],
    student: nn.Module,
    *teachers: nn.Module,
) -> Tensor:
    """Images x* (B,C,H,W) near ``batch.x`` that climb a loss in the L-infinity ball, detached.

    Args:
        attack: the objective itself: its radius, steps, start and BatchNorm mode.
        batch: its generator draws the start's noise.
        loss: maps z (B,C,H,W) to (B,).
        student: held still, without parameter gradients, while it is attacked.
        teachers: those that the loss looks through with its gradient.
    """
    with attacked(student, *teachers, bn=attack.attack_bn):
        return ascend(
            batch.x,
            loss,
            Linf(attack.eps),
            steps=attack.steps,
            step=attack.step,
            start=attack.start,
            rng=batch.rng,
        )
