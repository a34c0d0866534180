"""DARWIN (Dong et al., CVPR 2025), after its Algorithm 1; there is no released code.

The student is a pair of networks that share all weights but those of BatchNorm: the second is a
copy whose other parameters are the first one's.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS, STEP, STEPS, BETA, MARGIN, GAMMA, WEIGHT = 8 / 255, 2 / 255, 10, 4.0, 0.1, 0.5, 0.5


def add_second_branch(student: nn.Module) -> nn.Module:
    """The second network: it shares the first one's convolutions and has its own BatchNorm."""
    second = copy.deepcopy(student)
    for name, module in student.named_modules():
        if not isinstance(module, nn.BatchNorm2d):
            target = second.get_submodule(name)
            for key, parameter in module._parameters.items():
                target._parameters[key] = parameter
    return second


def list_parameters(student: nn.Module, second: nn.Module) -> list[nn.Parameter]:
    """The parameters of both, each once."""
    return list({id(p): p for p in (*student.parameters(), *second.parameters())}.values())


def find_path(network: nn.Module, x: Tensor, start: Tensor, y: Tensor, sign: int) -> list[Tensor]:
    """The iterates of PGD on the cross-entropy."""
    network.eval()
    path, z = [], start
    for _ in range(STEPS):
        z = z.detach().requires_grad_()
        loss = F.cross_entropy(network(z), y, reduction="sum")
        grad = torch.autograd.grad(loss, [z])[0]
        z = z.detach() + sign * STEP * grad.sign()
        z = torch.min(torch.max(z, x - EPS), x + EPS).clamp(0, 1)
        path.append(z)
    network.train()
    return path


def divergence(logits: Tensor, target: Tensor) -> Tensor:
    """KL(softmax(target) || softmax(logits)) (B,)."""
    return F.kl_div(F.log_softmax(logits, 1), F.softmax(target, 1), reduction="none").sum(1)


def weigh(i: int, p: Tensor, q: Tensor, y: Tensor) -> Tensor:
    """The weight (B,) of step i."""
    gap = (p - q.detach()).gather(1, y[:, None]).squeeze(1).abs()
    return (1 - GAMMA) * i / STEPS + GAMMA * gap / gap.max().clamp_min(1e-8)


def triplet(anchor: Tensor, positive: Tensor, negative: Tensor) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin) (B,)."""
    near = (anchor - positive).square().sum(1)
    far = (anchor - negative).square().sum(1)
    return (near - far + MARGIN).clamp_min(0)


def step(
    student: nn.Module,
    second: nn.Module,
    teacher: nn.Module,
    optimizer: torch.optim.Optimizer,
    x: Tensor,
    y: Tensor,
) -> None:
    """One step; the losses of all intermediate samples are added and go backward at once."""
    partner = torch.randperm(len(x))
    other = (y != y[partner]).float()
    path = find_path(student, x, (x + 0.001 * torch.randn_like(x)).clamp(0, 1), y, +1)
    towards = find_path(second, x[partner], x[partner], y, -1)
    with torch.no_grad():
        target = teacher(x)
    p = F.softmax(target, 1)
    optimizer.zero_grad()
    loss = divergence(student(x), target).mean()
    for i, (z, z_pair) in enumerate(zip(path, towards, strict=True), 1):
        with torch.no_grad():
            target_adv = teacher(z)
        logits = student(z)
        q, r = F.softmax(logits, 1), F.softmax(second(z_pair), 1)
        w, w_pair = weigh(i, p, q, y), weigh(i, p[partner], r, y[partner])
        factor = BETA if i == STEPS else w
        loss = loss + (factor * divergence(logits, target_adv)).mean()
        apart = w * triplet(p, q, r) + w_pair * triplet(p[partner], r, q)
        loss = loss + WEIGHT * (other * apart).mean()
    loss.backward()
    optimizer.step()
    loss.item()
