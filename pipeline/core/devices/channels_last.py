"""Where a network must not be stored channels last on a CPU.

This module has no REVISION: the order of channels in memory moves results by rounding alone.
"""

from torch import nn

# Of fewer input channels, the gradient of a strided 1x1 convolution's weights writes beyond its
# memory where images or weights lie channels last (torch 2.14.1 on AVX2, single precision).
FEW_CHANNELS = 8


def find_unsafe_convolution(network: nn.Module) -> str:
    """The name of a convolution that may not lie channels last on a CPU; empty without one."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d) and is_unsafe(layer):
            return name
    return ""


def is_unsafe(layer: nn.Conv2d) -> bool:
    """Whether a convolution is strided, 1x1 and of few input channels."""
    is_strided = max(layer.stride) > 1
    return is_strided and layer.kernel_size == (1, 1) and layer.in_channels < FEW_CHANNELS
