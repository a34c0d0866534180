"""Data-free methods made robust: RSLAD's inner loop on generated images, for any loss."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

from torch import Tensor, nn

from pipeline.core.batch import Batch
from pipeline.core.inner_attack import perturbed
from pipeline.core.pgd import Start
from pipeline.core.threat_models import check_steps

REVISION = 1


class Method(Protocol):
    """What an objective with a robust form has among its fields."""

    attack: Literal["none", "rslad"]
    alpha: float
    eps: float
    step: float
    steps: int


@dataclass(frozen=True)
class Inner:
    """RSLAD's inner maximisation (Zi et al., ICCV 2021): its start and BatchNorm mode are fixed."""

    eps: float
    step: float
    steps: int
    start: Start = "gauss"
    attack_bn: Literal["eval", "train"] = "eval"

    def __post_init__(self):
        check_steps(self.eps, self.step, self.steps)


def inner_of(method: Method) -> Inner:
    """A method's inner maximisation.

    Raises:
        ValueError: radii or steps that cannot be meant.
    """
    return Inner(method.eps, method.step, method.steps)


def views(
    method: Method, student: nn.Module, batch: Batch, climbed: Callable[[Tensor], Tensor]
) -> Iterator[tuple[str, float, Tensor]]:
    """What the student is trained on: the name and weight of a term, and its logits (B,K).

    Plain: S(x) alone. ``attack: rslad``: S(x*) with weight alpha and S(x) with the rest, where x*
    climbs ``climbed``, a loss (B,) of the student's logits.
    """
    if method.attack == "none":
        yield "kd", 1.0, student(batch.x)
        return
    x_adv = perturbed(inner_of(method), batch, lambda z: climbed(student(z)), student)
    yield "kd_adv", method.alpha, student(x_adv)
    yield "kd", 1 - method.alpha, student(batch.x)
