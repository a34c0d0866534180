"""A whole inner ascent as one captured CUDA graph: its kernels are launched at once, not in turn.

At a batch of 128 a small network's kernels take less time than their launches. A graph repeats the
very kernels of the eager ascent, on the same weights, so that the iterates are the same. What it
reads besides is copied into memory of its own before each replay.

This module has no REVISION: it changes no number, and `compile: graph` is in the key.
"""

import logging
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter

log = logging.getLogger("retort")

WARM_UPS = 2  # runs on the side stream before the capture, in which libraries allocate and choose

FROM_HOST = (torch.tensor, torch.as_tensor, torch.asarray, torch.from_numpy, Tensor.new_tensor)

Ascent = Callable[..., list[Tensor]]
Capture = Callable[[Ascent, tuple[Tensor, ...]], Callable[[], list[Tensor]]]


def capture_cuda_graph(ascend: Ascent, inputs: tuple[Tensor, ...]) -> Callable[[], list[Tensor]]:
    """A function that repeats ``ascend(*inputs)`` on what the inputs hold then.

    Its results are overwritten by its next call.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            ascend(*inputs)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # other threads may copy images meanwhile
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        results = ascend(*inputs)

    def replay() -> list[Tensor]:
        graph.replay()
        return results

    return replay


def identify_function(function: Callable) -> object:
    """A hashable value: the same at every step, another for a function that does other things.

    A function made anew at each step has the same code, and so have the functions that it calls
    from its closure. Plain numbers and texts count too, which a graph would repeat as they were;
    what else a closure holds belongs among an ascent's inputs.
    """
    if isinstance(function, partial):
        held = [*function.args, *function.keywords.values()]
        return identify_function(function.func), identify_values([*function.keywords, *held])
    code = getattr(function, "__code__", None)
    if code is None:
        return function if isinstance(function, BuiltinFunctionType) else type(function)
    cells = [cell.cell_contents for cell in function.__closure__ or ()]
    return code, identify_values([*cells, *(function.__defaults__ or ())])


def identify_values(values: Iterable[object]) -> tuple[object, ...]:
    """What tells apart the functions and plain values among what a function holds."""
    found: list[object] = []
    for value in values:
        if isinstance(value, FunctionType | BuiltinFunctionType | partial):
            found.append(identify_function(value))
        elif isinstance(value, int | float | str):
            found.append((type(value), value))
    return tuple(found)


class ForeignReads(TorchFunctionMode):
    """Notes whether a call of torch reads a tensor that was neither given nor made in the block.

    What is not known lives as long as the block, so no storage made in it can be taken for it. A
    tensor made of the host's numbers counts as not made: a graph would repeat the first ones.
    """

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()
        self.storages = {tensor.untyped_storage()._cdata for tensor in known}
        self.found: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        """The call's result."""
        for value in tree_iter((args, kwargs or {})):
            if isinstance(value, Tensor) and value.untyped_storage()._cdata not in self.storages:
                form = tuple(value.shape)
                self.found.append(f"{func.__name__} reads a tensor {form} that is not declared")
        made = func(*args, **(kwargs or {}))
        for value in tree_iter(made):
            if isinstance(value, Tensor) and func not in FROM_HOST:
                self.storages.add(value.untyped_storage()._cdata)
        return made


@dataclass(frozen=True)
class Captured:
    """One captured ascent: where its inputs lie, where its networks' weights lay, its replay."""

    inputs: tuple[Tensor, ...]
    places: tuple[int, ...]
    replay: Callable[[], list[Tensor]]


@dataclass
class AscentGraphs:
    """The captured ascents of a training, one for each form of its inputs.

    The first ascent of a form runs eagerly and is watched: an ascent that reads what is neither
    among its inputs nor a weight or buffer of its networks stays eager, and so does one that draws
    random numbers or cannot be captured. One line of the log says so.

    Attributes:
        what: what is captured, for the log.
        capture: makes a replay of an ascent.
        made: the captured ascents; None stands for one that stays eager.
        seen: forms that were watched and are captured at their next ascent.
        is_busy: whether an ascent is being watched or captured.
    """

    what: str = "the ascent"
    capture: Capture = capture_cuda_graph
    made: dict[Hashable, Captured | None] = field(default_factory=dict)
    seen: set[Hashable] = field(default_factory=set)
    is_busy: bool = field(init=False, default=False)

    def run(
        self, ascend: Ascent, networks: tuple[nn.Module, ...], settings: Hashable, *inputs: Tensor
    ) -> list[Tensor]:
        """``ascend(*inputs)``, detached.

        Args:
            ascend: depends on nothing but its inputs, the networks and the settings; it changes
                nothing but buffers of the networks.
            networks: those that it runs.
            settings: of the ascent, such as its number of steps.
        """
        modes = tuple((id(n), n.training) for n in networks)
        form = settings, modes, *((x.shape, x.dtype, x.stride()) for x in inputs)
        if form not in self.seen:
            return self.watch(ascend, networks, form, inputs)
        places = list_places(networks)
        captured = self.made.get(form)
        if form in self.made and captured is None:
            return ascend(*inputs)
        if captured is None or captured.places != places:
            captured = self.made[form] = self.try_capture(ascend, networks, inputs)
            if captured is None:
                return ascend(*inputs)
        for own, given in zip(captured.inputs, inputs, strict=True):
            own.copy_(given)
        return [z.clone() for z in captured.replay()]

    def watch(
        self,
        ascend: Ascent,
        networks: tuple[nn.Module, ...],
        form: Hashable,
        inputs: tuple[Tensor, ...],
    ) -> list[Tensor]:
        """The eager ascent; notes whether it may be captured."""
        with self.stay_busy():
            result, why = run_watched(ascend, networks, inputs)
        self.seen.add(form)
        if why:
            self.made[form] = None
            log.info("compile: %s is not captured: %s; it runs eagerly", self.what, why)
        return result

    def try_capture(
        self, ascend: Ascent, networks: tuple[nn.Module, ...], inputs: tuple[Tensor, ...]
    ) -> Captured | None:
        """The captured ascent; None, and a line of the log, if torch cannot capture it."""
        own, places = tuple(x.detach().clone() for x in inputs), list_places(networks)
        try:
            with self.stay_busy(), keep_buffers(networks):
                return Captured(own, places, self.capture(ascend, own))
        except RuntimeError as error:
            why = str(error).partition("\n")[0]
            log.info("compile: %s is not captured: %s; it runs eagerly", self.what, why)
            return None

    @contextmanager
    def stay_busy(self) -> Iterator[None]:
        """Tells others, within the block, that an ascent is being watched or captured."""
        self.is_busy = True
        try:
            yield
        finally:
            self.is_busy = False


def run_watched(
    function: Callable[..., Any], networks: tuple[nn.Module, ...], inputs: tuple[Tensor, ...]
) -> tuple[Any, str]:
    """``function(*inputs)``, and why it must not be captured; empty if it may be."""
    weights = [t for n in networks for t in (*n.parameters(), *n.buffers())]
    device = inputs[0].device
    before = list_random_states(device)
    with ForeignReads((*inputs, *weights)) as reads:
        result = function(*inputs)
    if not all(map(torch.equal, before, list_random_states(device))):
        return result, "it draws random numbers"
    return result, reads.found[0] if reads.found else ""


def list_random_states(device: torch.device) -> list[Tensor]:
    """The states of torch's global generators that a network on a device may draw from."""
    own = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *own]


@contextmanager
def keep_buffers(networks: tuple[nn.Module, ...]) -> Iterator[None]:
    """Restores the networks' buffers, such as BatchNorm's statistics, after trial runs."""
    saved = [(buffer, buffer.clone()) for n in networks for buffer in n.buffers()]
    try:
        yield
    finally:
        for buffer, value in saved:
            buffer.data.copy_(value)  # an earlier pass of the step may still have to go backward


def list_places(networks: tuple[nn.Module, ...]) -> tuple[int, ...]:
    """The addresses of all weights and buffers: a graph reads them where they lay."""
    return tuple(t.data_ptr() for n in networks for t in (*n.parameters(), *n.buffers()))
