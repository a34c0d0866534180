"""Sample-wise adaptive adversarial distillation, SAAD (Lee and Chung, TMLR 2026)."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.collectives import all_gather
from pipeline.core.inner_attack import (
    CleanForward,
    InnerAttack,
    declare_attack_options,
    declare_clean_forward,
    make_adversarial_examples,
    show_clean_images,
)
from pipeline.core.losses import kl_divergence, softmax_entropy, subtract_logits

REVISION = 2
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)
ENTROPY_SCALE = 5.0  # the released code's factor of the entropy above the batch's smallest
SPREAD_FLOOR = 1e-8  # keeps the share of the largest weight finite where all are equal


def compute_label_gradient(teacher: nn.Module, x: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The teacher's logits (B,K) on x (B,C,H,W), and the gradient of the label's logit there."""
    z = x.detach().requires_grad_()
    logits = teacher(z)
    (gradient,) = torch.autograd.grad(logits.gather(1, labels[:, None]).sum(), z)
    return logits.detach(), gradient


@dataclass(frozen=True)
class Objective:
    """w [KL(T(x*)||S(x*)) + alpha progress IGDM(x*)] + beta (1 - w') KL(T(x)||S(x)).

    w = 5 (H(T(x*)) - the batch's least H), w' = (w - min w) / (max w - min w). x* = argmax
    KL(z'(x') || S(x')), z' = T(x) with the label's logit changed by ``correction`` times its
    gradient's product with x' - x: the teacher runs once an attack. IGDM(x*) is
    KL(T(x*) - T(2x-x*) || S(x*) - S(2x-x*)) on softmax outputs.

    Attributes:
        alpha: weight of the gradient matching at the end of training: 1 on ten classes, 10 on more.
        beta: weight of the clean term of samples that weigh little.
        correction: factor of the first-order change of the label's logit in the attack.
    """

    inner_attack: InnerAttack = declare_attack_options()
    clean: CleanForward = declare_clean_forward()
    alpha: float = 1.0
    beta: float = 0.0
    correction: float = 1.0
    needs_whole_batch: ClassVar[str] = "its weights compare the samples' entropies"

    def needs(self) -> tuple[str, ...]:
        """Hard labels, and a live teacher, of which the attack reads a gradient."""
        return ("label", "teacher")

    def make_images(self, roles: Roles, batch: Batch) -> tuple[Tensor, Tensor]:
        """The images x* (B,C,H,W), and T(x) (B,K)."""
        labels = batch.hard_labels
        logits, gradient = compute_label_gradient(roles.teacher, batch.x, labels)
        own = nn.functional.one_hot(labels, logits.shape[1]).to(logits)

        def measure_gap(z: Tensor, x: Tensor, logits: Tensor, g: Tensor, own: Tensor) -> Tensor:
            change = self.correction * (g * (z - x)).flatten(1).sum(1)
            return kl_divergence(roles.student(z), logits + change[:, None] * own)

        reads = batch.x, logits, gradient, own
        student = roles.student
        x_adv = make_adversarial_examples(
            self.inner_attack, batch, measure_gap, student, reads=reads
        )
        return x_adv, logits

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        student, teacher, x = roles.student, roles.teacher, batch.x
        x_adv, clean_target = self.make_images(roles, batch)
        mirrored = x - (x_adv - x)
        with torch.no_grad():
            target = teacher(x_adv)
            difference = subtract_logits(target, teacher(mirrored))
            entropy = softmax_entropy(target)
            every = all_gather(entropy)
            weight = ENTROPY_SCALE * (entropy - every.min())
            spread = ENTROPY_SCALE * (every.max() - every.min()) + SPREAD_FLOOR
        logits = student(x_adv)
        matching = kl_divergence(subtract_logits(logits, student(mirrored)), difference)
        terms = {
            "kd_adv": weight * kl_divergence(logits, target),
            "igdm": self.alpha * batch.progress * weight * matching,
        }
        if self.beta > 0:
            clean = kl_divergence(student(x), clean_target)
            terms["kd"] = self.beta * (1 - weight / spread) * clean
        else:
            show_clean_images(self.clean, student, x)
        yield terms
