"""RSLAD on DAD's samples (Zhou et al., NeurIPS 2023, Table 3)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.losses import kd_loss

REVISION = 1
COMPONENTS = ("pipeline.core.batch", "pipeline.core.losses")


@dataclass(frozen=True)
class Objective:
    """alpha t^2 [KL_t(T(x) || S(x~)) + KL_t(T(x) || S(x))], x~ the bank's sample of the same x.

    As in RSLAD (Zi et al., 2021) the teacher sees the clean image alone and no label is read; the
    attack is the bank's.

    Attributes:
        alpha: weight of each of the two terms.
        temperature: temperature of the softened outputs.
    """

    alpha: float = 0.5
    temperature: float = 4.0

    def needs(self) -> tuple[str, ...]:
        """The images' own samples, and the teacher's outputs on clean images."""
        return ("x_adv", "paired", "t_clean")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        target, t = get_clean_teacher_logits(roles, batch), self.temperature
        adversarial = roles.student(batch.stored["x_adv"])
        yield {
            "kd_adv": self.alpha * kd_loss(adversarial, target, t),
            "kd": self.alpha * kd_loss(roles.student(batch.x), target, t),
        }
