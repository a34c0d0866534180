"""RSLAD (Zi et al., 2021), each image weighted by the teacher's largest probability."""

from dataclasses import dataclass

from pipeline.core.batch import get_clean_teacher_logits
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    make_adversarial_examples,
)
from pipeline.core.losses import kd_loss


@dataclass(frozen=True)
class Objective:
    """w^power KL(T(x) || S(x*)), w = max_k T(x)_k; its options: power, and those of the attack."""

    inner_attack: InnerAttack = declare_attack_options()
    power: float = 1.0

    def needs(self):
        return ("t_clean",)

    def __call__(self, roles, batch):
        student, target = roles.student, get_clean_teacher_logits(roles, batch)
        x_adv = make_adversarial_examples(
            self.inner_attack, batch, lambda z: kd_loss(student(z), target), student
        )
        weight = target.softmax(1).amax(1) ** self.power
        yield {"kd_adv": weight * kd_loss(student(x_adv), target)}
