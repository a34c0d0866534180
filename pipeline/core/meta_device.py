"""Networks built to be looked at: shapes without memory, weights without values."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

RANDOM_FILLS = {Tensor.normal_, Tensor.uniform_, Tensor.erfinv_}


class NoRandomFillMode(TorchFunctionMode):
    """Inside the block random fills leave tensors as they are.

    On the meta device they load torch's compiler first: seconds of work, and 160 MB.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """What torch calls in place of each of its functions."""
        if func in RANDOM_FILLS:
            return args[0]
        return func(*args, **(kwargs or {}))


def build_on_meta(build: Callable, *arguments: object) -> torch.nn.Module:
    """What ``build(*arguments)`` returns, on the meta device."""
    with torch.device("meta"), NoRandomFillMode():
        return build(*arguments)
