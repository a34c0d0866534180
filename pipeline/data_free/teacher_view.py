"""Generated images with the teacher's outputs on them, and the losses that use these."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.batch import Terms
from pipeline.core.losses import cross_entropy, kl_divergence, negative_mean_entropy
from pipeline.models.generator import Moments, collect_batchnorm_moments

REVISION = 1


@dataclass(frozen=True)
class GeneratedBatch:
    """One step's generated images and the teacher's outputs, with graphs for the gradients.

    Attributes:
        x: images (B,C,H,W) in [0,1], augmented, as they go into the teacher.
        y: labels (B,) that were chosen before the images were generated.
        logits: the teacher's outputs (B,K), or None for a loss that does not use the teacher.
        features: the teacher's penultimate features (B,D), or None likewise.
        moments: moments of the inputs of the teacher's BatchNorms; empty where it has none.
        teacher: the teacher, for further forwards.
        student: the student, in eval mode and without parameter gradients.
        rng: the random generator of the step.
    """

    x: Tensor
    y: Tensor
    logits: Tensor | None
    features: Tensor | None
    moments: list[Moments]
    teacher: nn.Module
    student: Callable[[Tensor], Tensor]
    rng: torch.Generator


def show_to_teacher(
    x: Tensor,
    y: Tensor,
    teacher: nn.Module,
    student: Callable[[Tensor], Tensor],
    rng: torch.Generator,
    *,
    uses_teacher: bool = True,
) -> GeneratedBatch:
    """The batch of images (B,C,H,W) after one forward of the teacher, if ``uses_teacher``."""
    if not uses_teacher:
        return GeneratedBatch(x, y, None, None, [], teacher, student, rng)
    with collect_batchnorm_moments(teacher) as moments:
        logits = teacher.head(features := teacher.features(x))
    return GeneratedBatch(x, y, logits, features, moments, teacher, student, rng)


def one_hot_loss(logits: Tensor) -> Tensor:
    """L_oh (B,): cross-entropy to the teacher's own prediction, nats (DAFL; DERD, Sec. 3.2)."""
    return cross_entropy(logits, logits.detach().argmax(1))


def activation_loss(features: Tensor) -> Tensor:
    """L_a (B,): minus the mean absolute value of the penultimate features (B,D) (DAFL)."""
    return -features.abs().mean(1)


def statistics_loss(moments: list[Moments]) -> Tensor:
    """L_BN, a scalar: the summed distances of all layers (DeepInversion; DERD, Sec. 3.2)."""
    return torch.stack([layer.compute_distance() for layer in moments]).sum()


def compute_statistics_term(batch: GeneratedBatch, weight: float) -> Terms:
    """The term "bn", a scalar expanded to (B,); none for a teacher without BatchNorm."""
    if not batch.moments:
        return {}
    return {"bn": (weight * statistics_loss(batch.moments)).expand(len(batch.x))}


def compute_balance_term(logits: Tensor, weight: float) -> Terms:
    """The term "balance", L_ie of logits (B,K): a scalar expanded to (B,)."""
    return {"balance": (weight * negative_mean_entropy(logits)).expand(len(logits))}


def compute_disagreement(batch: GeneratedBatch) -> Tensor:
    """KL(T(x) || S(x)) (B,), nats, which images maximise; gradients pass through both networks."""
    return kl_divergence(batch.student(batch.x), batch.logits)
