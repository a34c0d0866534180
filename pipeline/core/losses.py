"""Losses. Each returns one value per sample, in nats unless it says otherwise."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

REVISION = 2

Logits = Float[Tensor, "B K"]
Labels = Int[Tensor, " B"]
PerSample = Float[Tensor, " B"]


def upcast_logits(logits: Logits) -> Logits:
    """Logits in at least single precision.

    Autocast on a CPU leaves softmax in bf16. Then rounding makes up a third of a KL's gradient at
    t = 30.
    """
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


def cross_entropy(logits: Logits, y: Labels | Logits, smoothing: float = 0.0) -> PerSample:
    """-log p_y, with the label smoothed towards uniform by ``smoothing``.

    For a mixed label, a distribution (B,K), it is -sum_c y_c log p_c.
    """
    return F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)


def kl_divergence(student_logits: Logits, teacher_logits: Logits) -> PerSample:
    """KL(teacher || student) = sum_c p_T (log p_T - log p_S); gradients flow into both."""
    log_s, log_t = (
        F.log_softmax(upcast_logits(student_logits), 1),
        F.log_softmax(upcast_logits(teacher_logits), 1),
    )
    return (log_t.exp() * (log_t - log_s)).sum(1)


def kd_loss(
    student_logits: Logits, teacher_logits: Logits, t: float | Float[Tensor, ""] = 1.0
) -> PerSample:
    """t^2 KL_t(teacher || student): both softened by temperature t (Hinton et al., 2015).

    The factor t^2 keeps the gradient's size comparable across temperatures.
    """
    return (
        t * t * kl_divergence(upcast_logits(student_logits) / t, upcast_logits(teacher_logits) / t)
    )


def soften_logits(logits: Logits, t: Tensor) -> Logits:
    """Logits over a temperature, one number or (B,1), in single precision at least.

    bf16 would round a temperature near 1 to steps of 1/128.
    """
    z = upcast_logits(logits)
    return z / t.to(z.dtype)


def subtract_logits(first: Logits, second: Logits) -> Logits:
    """The difference of a network's outputs for two images, in single precision at least."""
    return upcast_logits(first) - upcast_logits(second)


def softmax_entropy(logits: Logits) -> PerSample:
    """Shannon entropy of the softmax."""
    log_p = F.log_softmax(upcast_logits(logits), 1)
    return -(log_p.exp() * log_p).sum(1)


def probability_gap(first: Logits, second: Logits) -> PerSample:
    """L1 distance between two softmax outputs, in [0, 2] (DERD, eq. 14's discrepancy)."""
    return (first.softmax(1) - second.softmax(1)).abs().sum(1)


def logit_gap(first: Logits, second: Logits) -> PerSample:
    """Mean absolute difference of two networks' logits, in logits (DFAD, Fang et al., 2019)."""
    return (first - second).abs().mean(1)


def negative_mean_entropy(logits: Logits) -> Float[Tensor, ""]:
    """sum_c q_c log q_c with q the batch mean of the softmax: DERD's L_ie, minimal if balanced."""
    mean = logits.softmax(1).mean(0)
    return torch.special.xlogy(mean, mean).sum()


def pairwise_cosine_similarity(logits: Logits) -> Float[Tensor, "B others"]:
    """Cosine of each sample's logits with every other sample's, in the batch's order."""
    z = F.normalize(logits, dim=1)
    count = len(z)  # without the diagonal, which is each (count + 1)-th number, as a view
    return (z @ z.t()).flatten()[1:].view(count - 1, count + 1)[:, :-1].reshape(count, count - 1)


def info_nce(anchors: Float[Tensor, "B D"], positives: Float[Tensor, "B D"], t: float) -> PerSample:
    """-log softmax_j of cos(anchor i, positive j) / t, at j = i (van den Oord et al., 2018)."""
    cosines = F.normalize(anchors, dim=1) @ F.normalize(positives, dim=1).t()
    return cross_entropy(cosines / t, torch.arange(len(cosines), device=cosines.device))


def triplet_loss(anchor: Logits, positive: Logits, negative: Logits, margin: float) -> PerSample:
    """max(||p - q||^2 - ||p - r||^2 + margin, 0), squared Euclidean distances, not in nats."""
    gap = (anchor - positive).square().sum(1) - (anchor - negative).square().sum(1)
    return (gap + margin).clamp_min(0)
