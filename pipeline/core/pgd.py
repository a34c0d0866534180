"""Projected gradient descent (PGD), which training, banks and inner attacks share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.core.collectives import repeat_for_ranks, take_own_rows
from pipeline.core.threat_models import ThreatModel

REVISION = 1

Start = Literal["clean", "gauss", "uniform"]
GAUSS_SCALE = 0.001  # TRADES, RSLAD, AdaAD and DARWIN all start at x + 0.001 N(0, I)


@contextmanager
def freeze_modules(*modules: nn.Module) -> Iterator[None]:
    """Puts modules into eval mode without parameter gradients; restores their state afterwards."""
    modes = [(m, m.training) for module in modules for m in module.modules()]
    grads = [(p, p.requires_grad) for module in modules for p in module.parameters()]
    try:
        for module in modules:
            module.eval().requires_grad_(False)
        yield
    finally:
        for m, training in modes:
            m.training = training
        for p, required in grads:
            p.requires_grad_(required)


@contextmanager
def freeze_for_attack(
    student: nn.Module, *others: nn.Module, bn: Literal["eval", "train"]
) -> Iterator[None]:
    """Freezes modules for an inner attack; ``bn='train'`` leaves the student's modes unchanged.

    ``bn='train'`` reproduces ARD's and IAD's released code, whose running statistics also take in
    the attack's iterates.
    """
    with ExitStack() as stack:
        modes = [(m, m.training) for m in student.modules()]
        stack.enter_context(freeze_modules(student, *others))
        if bn == "train":
            for m, training in modes:
                m.training = training
        yield


def make_first_iterate(
    x: Tensor, threat_model: ThreatModel, start: Start | Tensor, rng: torch.Generator | None
) -> Tensor:
    """The first iterate (B,C,H,W) of PGD around x; each rank draws the noise of the whole batch."""
    if isinstance(start, Tensor):
        return start
    if start == "clean":
        return x
    if start == "uniform":
        return take_own_rows(threat_model.sample(repeat_for_ranks(x), rng))
    noise = torch.randn(repeat_for_ranks(x).shape, generator=rng, device=x.device, dtype=x.dtype)
    return (x + GAUSS_SCALE * take_own_rows(noise)).clamp(0, 1)


def compute_input_gradient(
    loss: Callable[[Tensor], Tensor], z: Tensor, dtype: torch.dtype | None = None
) -> Tensor:
    """Gradient of the summed loss with respect to z alone, same shape as z.

    The loss runs under autocast to ``dtype``, or without autocast if it is None, whatever the
    autocast of the caller.
    """
    z = z.detach().requires_grad_()
    with torch.enable_grad(), torch.autocast(z.device.type, dtype, enabled=dtype is not None):
        total = loss(z).sum()
    (grad,) = torch.autograd.grad(total, z)
    return grad


def take_projected_step(
    z: Tensor, grad: Tensor, x: Tensor, threat_model: ThreatModel, step_size: float
) -> Tensor:
    """The point after one projected step from z along the gradient; all (B,C,H,W), detached."""
    return threat_model.project(
        z.detach() + step_size * threat_model.find_steepest_direction(grad), x
    )


def run_pgd(
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    threat_model: ThreatModel,
    *,
    steps: int,
    step_size: float,
    start: Start | Tensor,
    rng: torch.Generator | None = None,
    sign: int = +1,
    iterates: list[Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Projected gradient ascent (descent with ``sign=-1``) on a per-sample loss.

    Args:
        x: centres of the threat model, (B,C,H,W) in [0,1].
        loss: maps z (B,C,H,W) to (B,); its networks should be frozen by ``freeze_modules``.
        threat_model: scales the gradient and projects.
        steps: number of steps; 0 returns the start.
        step_size: in pixels of [0,1].
        start: "clean" x, "gauss" x + 0.001 N(0,I), "uniform" in the ball, or a first iterate.
        rng: draws the start's noise; not needed for a clean or given start.
        sign: +1 raises the loss, -1 lowers it.
        iterates: if given, the iterate after each step is appended to it.
        dtype: of the loss's autocast; None runs the loss without autocast.

    Returns:
        The last iterate (B,C,H,W), detached. The projection is outside the graph, because a clamp
        inside it would zero the gradient of saturated pixels.
    """
    z = make_first_iterate(x, threat_model, start, rng).detach()
    for _ in range(steps):
        grad = compute_input_gradient(loss, z, dtype)
        z = take_projected_step(z, grad, x, threat_model, sign * step_size)
        if iterates is not None:
            iterates.append(z)
    return z.detach()


def iterate_shared_pgd(
    x: Tensor,
    network: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor], Tensor],
    threat_model: ThreatModel,
    *,
    steps: int,
    step_size: float,
    start: Start | Tensor,
    rng: torch.Generator | None = None,
    sign: int = +1,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The iterates of ``run_pgd``, each with its logits; one forward serves attack and training.

    This is exact if attack and update run the network in the same mode and precision; both are the
    caller's. Back-propagate each item before asking for the next: then only one graph is held.

    Args:
        x, threat_model, steps, step_size, start, rng, sign: as in ``run_pgd``.
        network: maps z (B,C,H,W) to logits (B,K); it is not frozen.
        loss: maps logits to (B,).

    Yields:
        For each of the ``steps`` iterates z (B,C,H,W), detached, and ``network(z)`` (B,K).
    """
    next_iterate = make_first_iterate(x, threat_model, start, rng)
    for done in range(steps + 1):
        z = next_iterate.detach().requires_grad_()
        logits = network(z)
        if done < steps:
            (grad,) = torch.autograd.grad(loss(logits).sum(), z, retain_graph=done > 0)
            next_iterate = take_projected_step(z, grad, x, threat_model, sign * step_size)
        if done > 0:
            yield z.detach(), logits
