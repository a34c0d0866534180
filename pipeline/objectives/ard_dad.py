"""ARD on DAD's samples (Zhou et al., NeurIPS 2023, Table 3)."""

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.losses import cross_entropy, kd_loss

REVISION = 1
COMPONENTS = ("pipeline.core.batch", "pipeline.core.losses")


@dataclass(frozen=True)
class Objective:
    """CE(S(x), y) + alpha t^2 KL_t(T(x) || S(x~)), x~ the bank's sample of the same x.

    As in ARD (Goldblum et al., 2020) the teacher sees the clean image alone; the attack is the
    bank's.

    Attributes:
        alpha: weight of the distillation on the bank's samples.
        temperature: temperature of the softened outputs.
    """

    alpha: float = 0.5
    temperature: float = 4.0

    def needs(self) -> tuple[str, ...]:
        """Labels, the images' own samples, and the teacher's outputs on clean images."""
        return ("label", "x_adv", "paired", "t_clean")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        target = get_clean_teacher_logits(roles, batch)
        adversarial = roles.student(batch.stored["x_adv"])
        yield {
            "ce": cross_entropy(roles.student(batch.x), batch.labels),
            "kd_adv": self.alpha * kd_loss(adversarial, target, self.temperature),
        }
