"""DERD's stage II (self-adversary, expert guiding, gradient aggregation) on given images."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

STEP, STEPS, TAU = 2 / 255, 10, 1e-4


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """KL(softmax(target) || softmax(logits)), the mean over the batch."""
    return F.kl_div(F.log_softmax(logits, 1), F.softmax(target, 1), reduction="batchmean")


def find_disagreement(natural: nn.Module, robust: nn.Module, x: Tensor) -> Tensor:
    """Images (B,C,H,W) on which the two teachers disagree."""
    with torch.no_grad():
        label = natural(x).argmax(1)
    z = x.detach()
    for _ in range(STEPS):
        z.requires_grad_()
        own, other = natural(z), robust(z)
        gap = (F.softmax(own, 1) - F.softmax(other, 1)).abs().sum()
        loss = gap + F.cross_entropy(own, label, reduction="sum")
        grad = torch.autograd.grad(loss, [z])[0]
        z = (z.detach() + STEP * grad.sign()).clamp(0, 1)
    return z.detach()


def step(
    student: nn.Module,
    natural: nn.Module,
    robust: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
) -> None:
    """One step; the gradients of two terms are flattened, harmonised and written back."""
    x = find_disagreement(natural, robust, x)
    student.train()
    with torch.no_grad():
        targets = natural(x), robust(x)
    logits, parameters, flat = student(x), list(student.parameters()), []
    for target in targets:
        grads = torch.autograd.grad(divergence(logits, target), parameters, retain_graph=True)
        flat.append(torch.cat([g.flatten() for g in grads]))
    a, b = flat
    conflict = torch.dot(a, b).clamp_max(0)
    merged = (1 - conflict / a.dot(a)) * a + (1 - conflict / b.dot(b)) * b
    weights = [p for p in parameters if p.ndim > 1]
    decay = torch.cat([(torch.randn_like(p) * p).flatten() for p in weights]).norm()
    extra = torch.autograd.grad(TAU * decay, parameters, allow_unused=True)
    start = 0
    for parameter, more in zip(parameters, extra, strict=True):
        grad = merged[start : start + parameter.numel()].view_as(parameter)
        parameter.grad = grad if more is None else grad + more
        start += parameter.numel()
    optimizer.step()
    (divergence(logits, targets[0]) + divergence(logits, targets[1])).item()
