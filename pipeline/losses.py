"""Losses as formulas. Each returns one value per sample, in nats unless it says otherwise."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

REVISION = 1

Logits = Float[Tensor, "B K"]
Labels = Int[Tensor, " B"]
PerSample = Float[Tensor, " B"]


def cross_entropy(logits: Logits, y: Labels, smoothing: float = 0.0) -> PerSample:
    """-log p_y, with the label smoothed towards uniform by ``smoothing``."""
    return F.cross_entropy(logits, y, reduction="none", label_smoothing=smoothing)


def kl(student: Logits, teacher: Logits) -> PerSample:
    """KL(teacher || student) = sum_c p_T (log p_T - log p_S); gradients flow into both."""
    log_s, log_t = F.log_softmax(student, 1), F.log_softmax(teacher, 1)
    return (log_t.exp() * (log_t - log_s)).sum(1)


def kd_kl(student: Logits, teacher: Logits, t: float = 1.0) -> PerSample:
    """t^2 KL_t(teacher || student): both softened by temperature t (Hinton et al., 2015).

    The factor t^2 keeps the gradient's size comparable across temperatures.
    """
    return t * t * kl(student / t, teacher / t)


def entropy(logits: Logits) -> PerSample:
    """Shannon entropy of the softmax."""
    log_p = F.log_softmax(logits, 1)
    return -(log_p.exp() * log_p).sum(1)


def probability_gap(first: Logits, second: Logits) -> PerSample:
    """L1 distance between two softmax outputs, in [0, 2] (DERD, eq. 14's discrepancy)."""
    return (first.softmax(1) - second.softmax(1)).abs().sum(1)


def negative_mean_entropy(logits: Logits) -> Float[Tensor, ""]:
    """sum_c q_c log q_c with q the batch mean of the softmax: DERD's L_ie, minimal if balanced."""
    mean = logits.softmax(1).mean(0)
    return torch.special.xlogy(mean, mean).sum()
