"""The one ascent: training, banks and inner maximisations all step through it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import Literal

import torch
from torch import Tensor, nn

from pipeline.threat import Ball

REVISION = 1

Start = Literal["clean", "gauss", "uniform"]
GAUSS_SCALE = 0.001  # TRADES, RSLAD, AdaAD and DARWIN all start at x + 0.001 N(0, I)

_rounding: ContextVar[torch.dtype | None] = ContextVar("rounding", default=None)


@contextmanager
def rounded(dtype: torch.dtype | None) -> Iterator[None]:
    """Run every ascent inside the block under autocast to ``dtype``; None leaves it exact."""
    token = _rounding.set(dtype)
    try:
        yield
    finally:
        _rounding.reset(token)


@contextmanager
def frozen(*modules: nn.Module) -> Iterator[None]:
    """Put modules into eval mode without parameter gradients; restore each one's exact state."""
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
def attacked(
    student: nn.Module, *others: nn.Module, bn: Literal["eval", "train"]
) -> Iterator[None]:
    """``frozen`` for an inner maximisation; ``bn='train'`` leaves the student's modes alone.

    The train setting reproduces ARD's and IAD's released code, whose running statistics also
    see the attack's iterates.
    """
    with ExitStack() as stack:
        modes = [(m, m.training) for m in student.modules()]
        stack.enter_context(frozen(student, *others))
        if bn == "train":
            for m, training in modes:
                m.training = training
        yield


def begin(x: Tensor, ball: Ball, start: Start | Tensor, rng: torch.Generator | None) -> Tensor:
    """The first iterate (B,C,H,W) of an ascent around x."""
    if isinstance(start, Tensor):
        return start
    if start == "clean":
        return x
    if start == "uniform":
        return ball.sample(x, rng)
    noise = torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype)
    return (x + GAUSS_SCALE * noise).clamp(0, 1)


def input_gradient(loss: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Gradient of the summed loss with respect to z alone, same shape as z."""
    z = z.detach().requires_grad_()
    dtype = _rounding.get()
    with torch.enable_grad(), torch.autocast(z.device.type, dtype, enabled=dtype is not None):
        total = loss(z).sum()
    (grad,) = torch.autograd.grad(total, z)
    return grad


def ascend(
    x: Tensor,
    loss: Callable[[Tensor], Tensor],
    ball: Ball,
    *,
    steps: int,
    step: float,
    start: Start | Tensor,
    rng: torch.Generator | None = None,
    sign: int = +1,
    path: list[Tensor] | None = None,
) -> Tensor:
    """Projected gradient ascent (descent with ``sign=-1``) on a per-sample loss.

    Args:
        x: centres of the balls, (B,C,H,W) in [0,1].
        loss: maps z (B,C,H,W) to (B,); its networks should be ``frozen``.
        ball: the threat model that scales the gradient and projects.
        steps: number of steps; 0 returns the start.
        step: step size, pixels in [0,1].
        start: "clean" x, "gauss" x + 0.001 N(0,I), "uniform" in the ball, or a first iterate.
        rng: draws the start's noise; not needed for a clean or given start.
        path: if given, every iterate after a step is appended to it.

    Returns:
        The last iterate (B,C,H,W), detached. Projection happens outside the graph, because a
        clamp inside it would zero the gradient of saturated pixels.
    """
    z = begin(x, ball, start, rng).detach()
    for _ in range(steps):
        grad = input_gradient(loss, z)
        z = ball.project(z.detach() + sign * step * ball.steepest(grad), x)
        if path is not None:
            path.append(z)
    return z.detach()
