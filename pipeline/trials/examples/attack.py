"""Attack: random signs of size eps."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Attack:
    """The fields are its options in the configuration; eps is the L-infinity radius."""

    eps: float = 8 / 255

    def __call__(self, model, x, y, seed):
        """Attacked images of x (B,C,H,W) in [0,1] with labels y (B,); torch is seeded already."""
        return (x + self.eps * torch.randn_like(x).sign()).clamp(0, 1)
