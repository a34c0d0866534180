"""Teacher outputs cut to the k largest logits and the mass of the rest.

A sample keeps its k largest logits relative to the largest (fp16, the first is 0) and their
classes. All other classes share one logit, the tail. It is chosen so that their joint mass is exact
at temperature t: t log(sum_rest exp(z_c / t) / (K - k)), relative to the largest logit.
``unpack_logits`` gives the tail to each of these classes. The log-probabilities of the k classes
are then exact up to rounding, and the mass of the rest is spread evenly. With tau the mass of the
rest at t, q the true distribution within the rest, and r the unpacked distribution,

    KL_t(p || r) = tau (log(K - k) - H(q)) <= tau log(K - k)

up to fp16 rounding: every logit is off by at most 2^-11 of its size, so each log-probability by at
most twice the largest such error.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

REVISION = 1


def get_index_dtype(count: int) -> np.dtype:
    """The smallest unsigned integer type for indices 0 to ``count`` - 1."""
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
    """Logits (…,K) float32, the largest at 0, from the tensors of ``pack_logits``."""
    logits = tail.float().unsqueeze(-1).repeat_interleave(class_count, -1)
    return logits.scatter(-1, classes.long(), top.float())


@dataclass(frozen=True)
class PackedLogits:
    """Stored outputs of many samples; indexing by rows gives unpacked logits (B,…,K)."""

    top: Tensor
    classes: Tensor
    tail: Tensor
    class_count: int

    def __len__(self) -> int:
        return len(self.top)

    def __getitem__(self, rows: Tensor) -> Tensor:
        return unpack_logits(self.top[rows], self.classes[rows], self.tail[rows], self.class_count)

    def to(self, device: str) -> "PackedLogits":
        """The same outputs on a device."""
        moved = {name: getattr(self, name).to(device) for name in ("top", "classes", "tail")}
        return replace(self, **moved)
