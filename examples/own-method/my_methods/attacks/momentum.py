"""MI-FGSM (Dong et al., CVPR 2018): steps along the sign of an averaged gradient."""

from dataclasses import dataclass

import torch

from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import compute_input_gradient

from ..common import divide_by_mean_size


@dataclass(frozen=True)
class Attack:
    """Options: the L-infinity radius (several give a curve), the steps, the gradient's decay."""

    eps: float | tuple[float, ...] = 8 / 255
    steps: int = 10
    decay: float = 1.0

    def __call__(self, model, x, y, seed):
        z, direction = x, torch.zeros_like(x)
        for _ in range(self.steps):
            grad = compute_input_gradient(lambda z: cross_entropy(model(z), y), z)
            direction = self.decay * direction + divide_by_mean_size(grad)
            z = z + self.eps / self.steps * direction.sign()
        return z.clamp(x - self.eps, x + self.eps).clamp(0, 1)
