"""Captures for a machine without a card: operators are recorded once and repeated, as kernels."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from pipeline.core.devices import placement
from pipeline.core.devices.ascent_graph import AscentGraphs
from pipeline.core.devices.pass_graph import Forward, PassGraphs, RecordedPass


class Tracer:
    """Records an ascent; its results lie in memory of its own, which each replay overwrites."""

    def __init__(self) -> None:
        self.captures, self.replays = 0, 0

    def __call__(self, ascend: Callable, inputs: tuple[Tensor, ...]) -> Callable[[], list[Tensor]]:
        self.captures += 1
        traced, results = make_fx(ascend)(*inputs), [z.clone() for z in ascend(*inputs)]

        def replay() -> list[Tensor]:
            self.replays += 1
            return [own.copy_(z) for own, z in zip(results, traced(*inputs), strict=True)]

        return replay


class PassTracer:
    """Records a forward and its backward as one trace, which is repeated in two parts."""

    def __init__(self) -> None:
        self.captures, self.forwards, self.backwards = 0, 0, 0

    def __call__(self, forward: Forward, x: Tensor, weights: tuple[Tensor, ...]) -> RecordedPass:
        self.captures += 1
        grad_output = torch.zeros_like(forward(x))

        def run(x: Tensor, grad_output: Tensor) -> tuple[Tensor, list[Tensor]]:
            output = forward(x)
            grads = torch.autograd.grad(output, weights, grad_output, allow_unused=True)
            return output.detach(), [g for g in grads if g is not None]

        output = forward(x)
        used = [
            g is not None
            for g in torch.autograd.grad(output, weights, grad_output, allow_unused=True)
        ]
        trace = Replay(make_fx(run)(x, grad_output), [x, grad_output])
        grads = tuple(
            torch.empty_like(w) if is_used else None
            for w, is_used in zip(weights, used, strict=True)
        )
        own = output.detach().clone()

        def replay_forward() -> None:
            self.forwards += 1
            own.copy_(trace.run_forward())

        def replay_backward() -> None:
            self.backwards += 1
            kept = [g for g in grads if g is not None]
            for place, grad in zip(kept, trace.run_backward(), strict=True):
                place.copy_(grad)

        return RecordedPass(x, own, grad_output, grads, replay_forward, replay_backward)


def record_steps(monkeypatch: pytest.MonkeyPatch) -> tuple[Tracer, PassTracer]:
    """Lets `compile: graph` capture by tracers, which are returned; the CPU counts as a GPU."""
    tracer, passes, state = Tracer(), PassTracer(), "pipeline.training.state"
    forwards = AscentGraphs("a forward pass", Tracer())
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)
    monkeypatch.setattr(f"{state}.make_ascent_graphs", lambda device: AscentGraphs(capture=tracer))
    monkeypatch.setattr(
        f"{state}.make_pass_graphs", lambda ascents: PassGraphs(ascents, passes, forwards)
    )
    return tracer, passes


class Replay:
    """A trace of (output, gradients), run up to the output and on from there."""

    def __init__(self, traced: fx.GraphModule, inputs: list[Tensor]) -> None:
        self.inputs = inputs
        self.nodes = list(traced.graph.nodes)
        self.results = self.nodes[-1].args[0]
        first = next(n for n in self.nodes if n.op == "placeholder" and n.name.startswith("grad"))
        depends = {first}
        for node in self.nodes:
            if depends & set(node.all_input_nodes):
                depends.add(node)
        ops = [n for n in self.nodes if n.op not in ("placeholder", "output")]
        self.split = next(i for i, n in enumerate(self.nodes) if n in ops and n in depends)
        self.interpreter = fx.Interpreter(traced, garbage_collect_values=False)
        self.values: dict[fx.Node, Any] = {}

    def run_nodes(self, nodes: list[fx.Node]) -> None:
        """Run some nodes after the others."""
        self.interpreter.env = self.values
        for node in nodes:
            self.values[node] = self.interpreter.run_node(node)

    def run_forward(self) -> Tensor:
        """The output on what the inputs hold."""
        self.values = {}
        self.interpreter.args_iter = iter(self.inputs)
        self.run_nodes(self.nodes[: self.split])
        missing = self.results[0]
        if missing not in self.values:
            self.run_nodes([missing])
        return self.values[missing]

    def run_backward(self) -> list[Tensor]:
        """The gradients on what the output's gradient holds."""
        before = dict(self.values)
        self.run_nodes([n for n in self.nodes[self.split :] if n.op != "output"])
        found = [self.values[node] for node in self.results[1]]
        self.values = before
        return found
