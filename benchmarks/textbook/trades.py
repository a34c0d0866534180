"""TRADES (Zhang et al., ICML 2019)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, STEP, STEPS, BETA = 8 / 255, 2 / 255, 10, 6.0


def step(student: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """One step; the output on the clean images is computed anew in every step of the attack."""
    criterion = nn.KLDivLoss(reduction="sum")
    student.eval()
    x_adv = x.detach() + 0.001 * torch.randn_like(x)
    for _ in range(STEPS):
        x_adv.requires_grad_()
        with torch.enable_grad():
            loss = criterion(F.log_softmax(student(x_adv), 1), F.softmax(student(x), 1))
        grad = torch.autograd.grad(loss, [x_adv])[0]
        x_adv = x_adv.detach() + STEP * torch.sign(grad.detach())
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0.0, 1.0)
    student.train()
    x_adv = x_adv.detach()
    optimizer.zero_grad()
    clean = student(x)
    natural = F.cross_entropy(clean, y)
    robust = criterion(F.log_softmax(student(x_adv), 1), F.softmax(student(x), 1)) / len(x)
    loss = natural + BETA * robust
    loss.backward()
    optimizer.step()
    loss.item()
