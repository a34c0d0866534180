"""PGD adversarial training (Madry et al., ICLR 2018)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10


def step(student: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor) -> None:
    """One step; the attack's gradient comes from ``backward``, so weights have theirs too."""
    student.eval()
    delta = torch.empty_like(x).uniform_(-EPS, EPS)
    delta.data = (x + delta.data).clamp(0, 1) - x
    delta.requires_grad_()
    for _ in range(STEPS):
        loss = F.cross_entropy(student(x + delta), y)
        loss.backward()
        moved = delta.detach() + STEP * delta.grad.sign()
        delta.data = (x + moved.clamp(-EPS, EPS)).clamp(0, 1) - x
        delta.grad.zero_()
    student.train()
    optimizer.zero_grad()
    loss = F.cross_entropy(student((x + delta).detach()), y)
    loss.backward()
    optimizer.step()
    loss.item()
