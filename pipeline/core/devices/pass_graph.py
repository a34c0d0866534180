"""A network's forward and backward pass in a step, each captured as one CUDA graph.

The outer step of a training is a few passes of the student and its teachers beside small losses. As
in an ascent, a graph repeats the eager kernels on the same weights. `torch.cuda`'s own
`make_graphed_callables` is not used: while it captures, other threads may not copy images, and a
second backward pass through one forward would be wrong without a word.

This module has no REVISION: it changes no number, and `compile: graph` is in the key.
"""

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.func import functional_call

from pipeline.core.devices.ascent_graph import (
    WARM_UPS,
    AscentGraphs,
    keep_buffers,
    list_places,
    run_watched,
)

log = logging.getLogger("retort")

MOST_PASSES = 4  # captured forwards with a gradient: each holds one pass's activations

Forward = Callable[[Tensor], Tensor]


@dataclass
class RecordedPass:
    """One forward and its backward, which read and write memory of their own.

    Attributes:
        x: images (B,C,H,W) that the forward reads.
        output: what it writes.
        grad_output: the output's gradient, which the backward reads.
        grads: the weights' gradients, which it writes; None for a weight that is not used.
        replay_forward, replay_backward: repeat the kernels.
        uses: number of forwards so far.
    """

    x: Tensor
    output: Tensor
    grad_output: Tensor
    grads: tuple[Tensor | None, ...]
    replay_forward: Callable[[], Any]
    replay_backward: Callable[[], Any]
    uses: int = 0


CapturePass = Callable[[Forward, Tensor, tuple[Tensor, ...]], RecordedPass]


def capture_cuda_pass(forward: Forward, x: Tensor, weights: tuple[Tensor, ...]) -> RecordedPass:
    """``forward(x)`` and its gradient to leaves ``weights``, recorded as two CUDA graphs.

    The backward keeps the forward's activations, so that it may run more than once.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            output = forward(x)
            grad_output = torch.zeros_like(output)
            torch.autograd.grad(output, weights, grad_output, allow_unused=True)
            del output  # frees the graph, whose leaves belong to the side stream
    torch.cuda.current_stream().wait_stream(side)
    graphs = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    # other threads may copy images meanwhile
    with torch.cuda.graph(graphs[0], capture_error_mode="thread_local"):
        output = forward(x)
    with torch.cuda.graph(graphs[1], pool=graphs[0].pool(), capture_error_mode="thread_local"):
        grads = torch.autograd.grad(
            output, weights, grad_output, retain_graph=True, allow_unused=True
        )
    return RecordedPass(x, output, grad_output, grads, graphs[0].replay, graphs[1].replay)


class ReplayedPass(torch.autograd.Function):
    """A recorded pass as a function of images and weights; outputs and gradients are copies."""

    @staticmethod
    def forward(ctx: Any, recorded: RecordedPass, x: Tensor, *weights: Tensor) -> Tensor:
        """The network's output on x."""
        recorded.x.copy_(x)
        recorded.replay_forward()
        recorded.uses += 1
        ctx.recorded, ctx.use = recorded, recorded.uses
        return recorded.output.detach().clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """The weights' gradients.

        Raises:
            RuntimeError: the pass has run forward again, so that its activations are others.
        """
        recorded, (grad_output,) = ctx.recorded, grads
        if recorded.uses != ctx.use:
            raise RuntimeError("compile: graph: a backward pass comes after its step; drop compile")
        recorded.grad_output.copy_(grad_output)
        recorded.replay_backward()
        return None, None, *(None if g is None else g.clone() for g in recorded.grads)


@dataclass
class Slot:
    """A recorded pass, and the step in which it ran last."""

    recorded: RecordedPass
    step: int


@dataclass
class PassGraphs:
    """The captured passes of a training's networks outside of attacks.

    Within `serve` a network's forward is repeated from a graph: with a gradient, if it is trained
    and its images need none; without one, under `no_grad`. The first pass of a form runs eagerly
    and is watched, as ascents are. Eager stay: passes under hooks, whose images need gradients, of
    networks that draw random numbers, and what a step has beyond `MOST_PASSES` with a gradient.

    Attributes:
        ascents: the attacks' graphs; a pass within a capture of theirs is left alone.
        capture: records a pass with a gradient.
        forwards: the captured passes without a gradient.
        slots: the recorded passes of each form; no slot runs twice in a step.
        seen: forms that were watched, and why they stay eager; empty if they need not.
        step: counts the steps served.
    """

    ascents: AscentGraphs
    capture: CapturePass = capture_cuda_pass
    forwards: AscentGraphs = field(default_factory=lambda: AscentGraphs("a forward pass"))
    slots: dict[Hashable, list[Slot]] = field(default_factory=dict)
    seen: dict[Hashable, str] = field(default_factory=dict)
    step: int = 0
    is_busy: bool = False

    @contextmanager
    def serve(self, student: nn.Module, teachers: Mapping[str, nn.Module]) -> Iterator[None]:
        """Takes the networks' forwards over within one step."""
        self.step += 1
        with ExitStack() as stack:
            for network in {id(n): n for n in (student, *teachers.values())}.values():
                if "forward" in vars(network):
                    continue  # somebody else has taken it over
                own = network.forward
                network.forward = partial(self.run, network, own)
                stack.callback(delattr, network, "forward")
            yield

    def run(self, network: nn.Module, own: Forward, x: Tensor) -> Tensor:
        """The network's output on x, from a graph where that is possible; ``own`` is eager."""
        is_within = self.is_busy or self.ascents.is_busy or self.forwards.is_busy
        if is_within or x.requires_grad or has_hooks(network):
            return own(x)
        cast = get_autocast(x.device)
        forward = partial(run_cast, own, x.device.type, cast)
        if not torch.is_grad_enabled():
            (output,) = self.forwards.run(lambda x: [forward(x)], (network,), ("forward", cast), x)
            return output
        weights = {n: p for n, p in network.named_parameters() if p.requires_grad}
        if not (network.training and weights):
            return own(x)
        form = id(network), list_places((network,)), cast, x.shape, x.dtype, x.stride()
        if form not in self.seen:
            return self.watch(form, network, forward, x)
        slot = None if self.seen[form] else self.take_slot(form, network, weights, x)
        return (
            forward(x) if slot is None else ReplayedPass.apply(slot.recorded, x, *weights.values())
        )

    def watch(self, form: Hashable, network: nn.Module, forward: Forward, x: Tensor) -> Tensor:
        """The eager pass; notes whether it may be captured."""
        with self.stay_busy():
            output, why = run_watched(forward, (network,), (x,))
        self.note(form, why)
        return output

    def take_slot(
        self, form: Hashable, network: nn.Module, weights: Mapping[str, Tensor], x: Tensor
    ) -> Slot | None:
        """A recorded pass that has not run in this step; None where there can be none."""
        slots = self.slots.setdefault(form, [])
        free = next((slot for slot in slots if slot.step != self.step), None)
        if free is None and sum(map(len, self.slots.values())) < MOST_PASSES:
            recorded = self.try_capture(form, network, weights, x)
            if recorded is not None:
                slots.append(free := Slot(recorded, self.step))
        if free is not None:
            free.step = self.step
        return free

    def try_capture(
        self, form: Hashable, network: nn.Module, weights: Mapping[str, Tensor], x: Tensor
    ) -> RecordedPass | None:
        """The recorded pass; None, and a line of the log, if torch cannot capture it.

        It differentiates by leaves of its own, which share the weights' memory: torch's node of a
        leaf belongs to the stream in which it was first used.
        """
        leaves = {name: p.detach().requires_grad_() for name, p in weights.items()}

        def call(x: Tensor) -> Tensor:
            return functional_call(network, leaves, (x,))

        device, cast = x.device.type, get_autocast(x.device)
        run = partial(run_cast, call, device, cast)
        try:
            with self.stay_busy(), keep_buffers((network,)), torch.autocast(device, enabled=False):
                return self.capture(run, x.detach().clone(), tuple(leaves.values()))
        except RuntimeError as error:
            self.note(form, str(error).partition("\n")[0])
            return None

    def note(self, form: Hashable, why: str) -> None:
        """Keeps why a form stays eager, and tells the log; an empty reason lets it be captured."""
        self.seen[form] = why
        if why:
            log.info("compile: a pass with its gradient is not captured: %s; it runs eagerly", why)

    @contextmanager
    def stay_busy(self) -> Iterator[None]:
        """Leaves passes within the block alone."""
        self.is_busy = True
        try:
            yield
        finally:
            self.is_busy = False


def has_hooks(network: nn.Module) -> bool:
    """Whether a layer tells somebody of its passes: a graph would not."""
    return any(
        m._forward_hooks or m._forward_pre_hooks or m._backward_hooks or m._backward_pre_hooks
        for m in network.modules()
    )


def get_autocast(device: torch.device) -> torch.dtype | None:
    """The dtype of the autocast that is on for a device; None without one."""
    on = torch.is_autocast_enabled(device.type)
    return torch.get_autocast_dtype(device.type) if on else None


def run_cast(forward: Forward, device: str, cast: torch.dtype | None, x: Tensor) -> Tensor:
    """The output under an autocast without its cache: a graph must round the weights itself.

    So the gradients of several passes are summed in single precision, not in bf16.
    """
    with torch.autocast(device, cast, enabled=cast is not None, cache_enabled=False):
        return forward(x)
