"""Generated images with the teacher's outputs on them, and the losses that use these."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

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
        raw: the images (B,C,H,W) as they were made, before their augmentation.
        watched: what the loss's ``watch`` collected in the teacher's forward on ``x``.
        notes: what the loss keeps of this batch for its ``remember``.
    """

    x: Tensor
    y: Tensor
    logits: Tensor | None
    features: Tensor | None
    moments: list[Moments]
    teacher: nn.Module
    student: Callable[[Tensor], Tensor]
    rng: torch.Generator
    raw: Tensor
    watched: list[Tensor] = field(default_factory=list)
    notes: dict[str, Tensor] = field(default_factory=dict)


Watch = Callable[[nn.Module], AbstractContextManager[list[Tensor]]]


def show_to_teacher(
    x: Tensor,
    y: Tensor,
    teacher: nn.Module,
    student: Callable[[Tensor], Tensor],
    rng: torch.Generator,
    *,
    uses_teacher: bool = True,
    raw: Tensor | None = None,
    watch: Watch | None = None,
) -> GeneratedBatch:
    """The batch of images (B,C,H,W) after one forward of the teacher, if ``uses_teacher``.

    Args:
        x: the images, augmented.
        y: labels (B,) that were chosen before.
        teacher: seen in eval mode.
        student: passed on.
        rng: passed on.
        uses_teacher: False leaves the teacher's outputs None.
        raw: the images before their augmentation; ``x`` if they have none.
        watch: collects tensors of the teacher's forward, such as the inputs of some layers.
    """
    raw = x if raw is None else raw
    if not uses_teacher:
        return GeneratedBatch(x, y, None, None, [], teacher, student, rng, raw)
    watching = watch(teacher) if watch else nullcontext([])
    with collect_batchnorm_moments(teacher) as moments, watching as watched:
        logits = teacher.head(features := teacher.features(x))
    return GeneratedBatch(x, y, logits, features, moments, teacher, student, rng, raw, watched)


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
    """The term "balance", weight times L_ie of logits (B,K) in nats: a scalar expanded to (B,)."""
    return {"balance": (weight * negative_mean_entropy(logits)).expand(len(logits))}


def compute_disagreement(batch: GeneratedBatch) -> Tensor:
    """KL(T(x) || S(x)) (B,), nats, which images maximise; gradients pass through both networks."""
    return kl_divergence(batch.student(batch.x), batch.logits)
