"""RSLAD (Zi et al., ICCV 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, STEP, STEPS, ALPHA, SCALE = 8 / 255, 2 / 255, 10, 5 / 6, 0.1


def soft_loss(logits: Tensor, target: Tensor) -> Tensor:
    """KL(target || softmax(logits)) (B,)."""
    return F.kl_div(F.log_softmax(logits, 1), target, reduction="none").sum(1)


def step(
    student: nn.Module, teacher: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
) -> None:
    """One step; the labels are not used."""
    with torch.no_grad():
        target = F.softmax(teacher(x), 1)
    student.eval()
    x_adv = x.detach() + 0.001 * torch.randn_like(x)
    for _ in range(STEPS):
        x_adv.requires_grad_()
        loss = soft_loss(student(x_adv), target).sum()
        grad = torch.autograd.grad(loss, [x_adv])[0]
        x_adv = x_adv.detach() + STEP * torch.sign(grad.detach())
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0.0, 1.0)
    student.train()
    optimizer.zero_grad()
    adversarial, clean = student(x_adv.detach()), student(x)
    loss = ALPHA * soft_loss(adversarial, target) + (1 - ALPHA) * soft_loss(clean, target)
    loss = SCALE * loss.mean()
    loss.backward()
    optimizer.step()
    loss.item()
