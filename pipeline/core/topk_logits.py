"""Teacher outputs cut to the k largest logits and the mass of the rest.

A sample keeps its k largest logits relative to the largest (fp16, the first is 0), their classes,
and one logit for all other classes: the one at which their joint mass is exact at temperature t,
t log(sum_rest exp(z_c / t) / (K - k)), relative to the largest as well. ``rebuilt`` puts it in
every other place, so log-probabilities come back up to rounding on the k, and on the rest as if
their mass lay evenly. With tau that mass at t and q the true distribution within the rest,

    KL_t(p || rebuilt) = tau (log(K - k) - H(q)) <= tau log(K - k)

but for fp16: every logit is off by at most 2^-11 of its size, so each log-probability by at most
twice the largest such error.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

REVISION = 1


def get_index_dtype(count: int) -> np.dtype:
    """The smallest unsigned integer type that numbers ``count`` things."""
    return np.min_scalar_type(count - 1)


def pack_logits(logits: Tensor, k: int, temperature: float) -> dict[str, np.ndarray]:
    """``top`` (…,k) float16, ``class`` (…,k) unsigned and ``tail`` (…) float16 of logits (…,K)."""
    count = logits.shape[-1]
    values, classes = logits.float().sort(dim=-1, descending=True, stable=True)
    values = values - values[..., :1]
    rest = (values[..., k:] / temperature).logsumexp(-1) - math.log(count - k)
    return {
        "top": values[..., :k].cpu().numpy().astype(np.float16),
        "class": classes[..., :k].cpu().numpy().astype(get_index_dtype(count)),
        "tail": (temperature * rest).cpu().numpy().astype(np.float16),
    }


def unpack_logits(top: Tensor, classes: Tensor, tail: Tensor, class_count: int) -> Tensor:
    """Logits (…,K) float32, the largest at 0, from what ``packed`` gives as tensors."""
    logits = tail.float().unsqueeze(-1).repeat_interleave(class_count, -1)
    return logits.scatter(-1, classes.long(), top.float())


@dataclass(frozen=True)
class PackedLogits:
    """Stored outputs of many samples; an index gives their rebuilt logits (B,…,K)."""

    top: Tensor
    classes: Tensor
    tail: Tensor
    class_count: int

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return unpack_logits(self.top[rows], self.classes[rows], self.tail[rows], self.class_count)

    def to(self, device: str) -> "PackedLogits":
        """The same on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("top", "classes", "tail")}
        return replace(self, **moved)
