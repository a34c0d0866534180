"""Frozen networks in a faster form: BatchNorm folded into convolutions, weights held in bf16.

Folding changes the rounding alone: in double precision logits and input gradients agree to 1e-10,
in single precision to 1e-5 of the largest. Weights held in bf16 are those that autocast makes anew
at every pass: under autocast nothing changes.
"""

import copy
import logging
from collections import Counter
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

REVISION = 1

log = logging.getLogger("retort")

UNTRACEABLE = (fx.proxy.TraceError, RuntimeError, TypeError, ValueError, AttributeError, KeyError)


def run_conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """As the layer's own forward."""
    return layer._conv_forward(x, *match_weights(layer, x))


def run_linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """As the layer's own forward."""
    return F.linear(x, *match_weights(layer, x))


HELD = {nn.Conv2d: run_conv, nn.Linear: run_linear}  # whose weights autocast rounds at each pass


def match_weights(layer: nn.Conv2d | nn.Linear, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Weight and bias, held in bf16, in the dtype in which the layer computes on x.

    Without autocast that is x's own.
    """
    weight, bias = layer.weight, layer.bias
    if torch.is_autocast_enabled(x.device.type):
        return weight, bias
    return weight.to(x.dtype), None if bias is None else bias.to(x.dtype)


class InBfloat16(nn.Module):
    """A frozen network that computes under bf16 autocast and returns single precision.

    Its input gradients pass through the same roundings.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = hold_weights_in_bf16(network)

    def forward(self, x: Tensor) -> Tensor:
        """The network's output, float32."""
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x).float()


def hold_weights_in_bf16(network: nn.Module) -> nn.Module:
    """The network, its convolutions' and linear layers' weights rounded to bf16 in place.

    Raises:
        ValueError: it is trained.
    """
    check_frozen(network)
    for module in network.modules():
        if type(module) in HELD:
            module.to(torch.bfloat16).forward = partial(HELD[type(module)], module)
    return network


def form_teacher(teacher: nn.Module, role: str, *, holds_bf16: bool) -> tuple[nn.Module, str]:
    """A frozen teacher in the form ``folded``, and what that is in words.

    Args:
        role: names it in the log.
        holds_bf16: whether it runs under bf16 autocast alone, so that it may hold its weights so.
    """
    folded, what = fold_batchnorms(teacher, role)
    if not holds_bf16:
        return folded, what
    return hold_weights_in_bf16(folded), f"{what}, weights held in bf16"


def fold_batchnorms(network: nn.Module, role: str) -> tuple[nn.Module, str]:
    """A copy whose BatchNorms are folded into the convolutions before them, and what was folded.

    One that stands elsewhere stays, and so do all where torch.fx cannot follow the network's
    forward pass; a line of the log says so.

    Args:
        network: frozen and in eval mode; it is not changed.
        role: names it in the log.

    Raises:
        ValueError: it is trained.
    """
    check_frozen(network)
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    try:
        pairs = list_foldable_pairs(network) if norms else []
    except UNTRACEABLE as error:
        why = str(error).partition("\n")[0]
        log.info("teacher_form: %s stays as it is: torch.fx cannot follow it (%s)", role, why)
        return network, f"0 of {norms} BatchNorms folded"
    folded = copy.deepcopy(network)
    for conv_name, norm_name in pairs:
        conv, norm = (folded.get_submodule(name) for name in (conv_name, norm_name))
        fused = fuse_conv_bn_eval(copy.deepcopy(conv).double(), copy.deepcopy(norm).double())
        folded.set_submodule(conv_name, fused.to(conv.weight.dtype))
        folded.set_submodule(norm_name, nn.Identity())
    what = f"{len(pairs)} of {norms} BatchNorms folded"
    log.info("teacher_form: %s: %s", role, what)
    return folded, what


def list_foldable_pairs(network: nn.Module) -> list[tuple[str, str]]:
    """Names of each convolution and of the BatchNorm that alone reads its output.

    Both run once in a forward pass, and nothing else reads the convolution's weights.
    """
    nodes = list(fx.Tracer().trace(network).nodes)
    modules = dict(network.named_modules(remove_duplicate=False))
    calls = Counter(id(modules[node.target]) for node in nodes if node.op == "call_module")
    read = {node.target.rpartition(".")[0] for node in nodes if node.op == "get_attr"}
    pairs = []
    for node in nodes:
        if node.op != "call_module" or len(node.all_input_nodes) != 1:
            continue
        (source,) = node.all_input_nodes
        if source.op != "call_module" or len(source.users) != 1 or source.target in read:
            continue
        conv, norm = modules[source.target], modules[node.target]
        is_pair = type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d
        if is_pair and calls[id(conv)] == calls[id(norm)] == 1 and is_plain(conv, norm):
            pairs.append((source.target, node.target))
    return pairs


def is_plain(conv: nn.Module, norm: nn.Module) -> bool:
    """Whether the BatchNorm has statistics of its own, and neither layer a hook."""
    hooked = any(m._forward_hooks or m._forward_pre_hooks for m in (conv, norm))
    return norm.running_mean is not None and not hooked


def check_frozen(network: nn.Module) -> None:
    """Raise ValueError if a network is trained: its form must not change."""
    if network.training or any(p.requires_grad for p in network.parameters()):
        raise ValueError("network: is trained; only a frozen one in eval mode takes another form")
