"""Generated images with what their teacher says of them, and the losses that read it."""

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
    """One step's images on their way back to whoever made them: every graph is kept.

    Attributes:
        x: images (B,C,H,W) in [0,1], as the teacher is shown them.
        y: labels (B,) that were given before the images were made.
        logits: the teacher's outputs (B,K), None for a loss that does not look at them.
        features: the teacher's penultimate features (B,D), likewise.
        moments: of the inputs of the teacher's BatchNorms; empty where it has none.
        teacher: the network itself, for further views.
        student: the network that learns, in eval mode and without parameter gradients.
        rng: the step's own randomness.
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
    """Show images (B,C,H,W) to their teacher, in one forward; not ``asked``, it sees nothing."""
    if not uses_teacher:
        return GeneratedBatch(x, y, None, None, [], teacher, student, rng)
    with collect_batchnorm_moments(teacher) as moments:
        logits = teacher.head(features := teacher.features(x))
    return GeneratedBatch(x, y, logits, features, moments, teacher, student, rng)


def one_hot_loss(logits: Tensor) -> Tensor:
    """L_oh (B,): cross-entropy to the teacher's own label, nats (DAFL; DERD, Sec. 3.2)."""
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
    """KL(T(x) || S(x)) (B,), which the image is to raise; gradients through both networks."""
    return kl_divergence(batch.student(batch.x), batch.logits)
