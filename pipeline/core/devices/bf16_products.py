"""Convolutions and matrix products in bf16 on a processor without instructions for them.

torch computes them one number at a time there, some eight times slower than in single precision. A
product of two numbers in bf16 is exact in single precision, in which a processor with the
instructions also sums. So widening both factors, multiplying in single precision and rounding the
result gives the same numbers up to the order of the sums.

This module has no REVISION: processors sum in different orders, too, and no key knows them.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from pipeline.core.devices.channels_last import FEW_CHANNELS

aten = torch.ops.aten
PRODUCTS = frozenset(
    {
        aten.convolution.default,
        aten.convolution_backward.default,
        aten.mm.default,
        aten.addmm.default,
        aten.bmm.default,
        aten.baddbmm.default,
    }
)


class WidenedProducts(TorchDispatchMode):
    """While it is on, products of bf16 tensors on the CPU are summed in single precision.

    It covers the thread that enters it, and the backward passes started in it.
    """

    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """The operator's own result, or that of its widened form rounded to bf16."""
        kwargs = kwargs or {}
        if func not in PRODUCTS or not is_bf16_on_cpu(args[0]):
            return func(*args, **kwargs)
        args, kwargs = tree_map_only(Tensor, torch.Tensor.float, (args, kwargs))
        if func is aten.convolution_backward.default and args[1].shape[1] < FEW_CHANNELS:
            args = tree_map_only(Tensor, copy_channels_first, args)
        return tree_map_only(Tensor, torch.Tensor.bfloat16, func(*args, **kwargs))


def copy_channels_first(x: Tensor) -> Tensor:
    """A copy of a tensor that lies channels-first.

    For torch, a 1x1 kernel lies so already whatever its strides, by which it then chooses.
    """
    return x.clone(memory_format=torch.contiguous_format)


def is_bf16_on_cpu(x: Tensor) -> bool:
    """Whether a tensor is in bf16 and lies in the host's memory."""
    return x.dtype is torch.bfloat16 and x.device.type == "cpu"


def has_bf16_instructions() -> bool:
    """Whether torch has fast products in bf16 here; a build without oneDNN has none."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def needs_widening(device: torch.device | str, uses_bf16: bool) -> bool:
    """Whether bf16 is used on a CPU that lacks the instructions."""
    return uses_bf16 and torch.device(device).type == "cpu" and not has_bf16_instructions()


def widen_products(device: torch.device | str, uses_bf16: bool) -> AbstractContextManager:
    """Turns `WidenedProducts` on where bf16 needs it."""
    return WidenedProducts() if needs_widening(device, uses_bf16) else nullcontext()
