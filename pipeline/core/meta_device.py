"""Networks on the meta device: they have shapes, but no memory and no values."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

RANDOM_FILLS = {Tensor.normal_, Tensor.uniform_, Tensor.erfinv_}


class NoRandomFillMode(TorchFunctionMode):
    """Skips random fills of tensors inside the block.

    On the meta device a random fill loads torch's compiler, which takes seconds and 160 MB.
    """

    def __torch_function__(
        self,
        func: Callable,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """The result of a torch function; torch calls this in its place."""
        if func in RANDOM_FILLS:
            return args[0]
        return func(*args, **(kwargs or {}))


def build_on_meta(build: Callable, *arguments: object) -> torch.nn.Module:
    """What ``build(*arguments)`` returns, on the meta device."""
    with torch.device("meta"), NoRandomFillMode():
        return build(*arguments)
