"""AdaAD (Huang et al., CVPR 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, STEP, STEPS = 8 / 255, 2 / 255, 10


def distil(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """KL(teacher || student), the mean over the batch."""
    log_p, q = F.log_softmax(student_logits, 1), F.softmax(teacher_logits, 1)
    return F.kl_div(log_p, q, reduction="batchmean")


def step(
    student: nn.Module, teacher: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor
) -> None:
    """One step; the clean outputs of both are there although their weight is 0."""
    student.eval()
    x_adv = x.detach() + 0.001 * torch.randn_like(x)
    for _ in range(STEPS):
        x_adv.requires_grad_()
        with torch.enable_grad():
            loss = distil(student(x_adv), teacher(x_adv))
        grad = torch.autograd.grad(loss, [x_adv])[0]
        x_adv = x_adv.detach() + STEP * torch.sign(grad.detach())
        x_adv = torch.min(torch.max(x_adv, x - EPS), x + EPS).clamp(0.0, 1.0)
    student.train()
    x_adv = x_adv.detach()
    optimizer.zero_grad()
    with torch.no_grad():
        target_adv, target = teacher(x_adv), teacher(x)
    loss = 1.0 * distil(student(x_adv), target_adv) + 0.0 * distil(student(x), target)
    loss.backward()
    optimizer.step()
    loss.item()
