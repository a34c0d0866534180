"""Threat models: the set an attack stays in. Pixels and radii are in [0,1] units."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

REVISION = 1

Images = Float[Tensor, "B C H W"]
MIN_NORM = 1e-12
Norm = Literal["linf", "l2"]


def compute_norms(v: Images) -> Float[Tensor, "B 1 1 1"]:
    """Euclidean norm of each sample."""
    return v.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def normalise_samples(v: Images) -> Images:
    """Each sample divided by its Euclidean norm; a zero sample stays zero."""
    return v / compute_norms(v).clamp_min(MIN_NORM)


@dataclass(frozen=True)
class Linf:
    """The ball |z - x|_inf <= eps within the image range (Madry et al., ICLR 2018)."""

    eps: float

    def sample(self, x: Images, rng: torch.Generator | None) -> Images:
        """A point drawn uniformly from the ball, then clamped to the image range."""
        noise = torch.rand(x.shape, generator=rng, device=x.device, dtype=x.dtype)
        return self.place_noise(x, noise)

    def place_noise(self, x: Images, noise: Images) -> Images:
        """The point that uniform noise in [0,1] names, clamped to the image range."""
        return self.project(x + (2 * noise - 1) * self.eps, x)

    def find_steepest_direction(self, grad: Images) -> Images:
        """The direction of steepest ascent, of unit L-infinity norm: the gradient's sign."""
        return grad.sign()

    def project(self, z: Images, x: Images) -> Images:
        """The nearest point to z within eps of x and within [0,1]."""
        return torch.min(torch.max(z, x - self.eps), x + self.eps).clamp(0, 1)


@dataclass(frozen=True)
class L2:
    """The ball |z - x|_2 <= eps over all pixels of a sample, within the image range."""

    eps: float

    def sample(self, x: Images, rng: torch.Generator | None) -> Images:
        """A point at distance eps from x in a random direction, clamped to [0,1] (DAD's start)."""
        noise = torch.randn(x.shape, generator=rng, device=x.device, dtype=x.dtype)
        return self.place_noise(x, noise)

    def place_noise(self, x: Images, noise: Images) -> Images:
        """The point at distance eps in the direction of normal noise, clamped to [0,1]."""
        return self.project(x + self.eps * normalise_samples(noise), x)

    def find_steepest_direction(self, grad: Images) -> Images:
        """The gradient scaled to unit Euclidean length; zero where it is zero."""
        return normalise_samples(grad)

    def project(self, z: Images, x: Images) -> Images:
        """The point z with z - x shrunk to length eps, clamped to [0,1]; it stays in the ball."""
        delta = z - x
        scale = (self.eps / compute_norms(delta).clamp_min(MIN_NORM)).clamp_max(1.0)
        return (x + delta * scale).clamp(0, 1)


@dataclass(frozen=True)
class Unconstrained:
    """The image range alone, for discrepancy data without a ball (DERD, Sec. 3.3)."""

    def sample(self, x: Images, rng: torch.Generator | None) -> Images:
        """A uniform image."""
        return torch.rand(x.shape, generator=rng, device=x.device, dtype=x.dtype)

    def find_steepest_direction(self, grad: Images) -> Images:
        """The sign of the gradient, as in the L-infinity ball."""
        return grad.sign()

    def project(self, z: Images, x: Images) -> Images:
        """The point z clamped to [0,1]; x is not used."""
        return z.clamp(0, 1)


ThreatModel = Linf | L2 | Unconstrained


def check_radius(name: str, value: float, norm: Norm = "linf") -> None:
    """Checks that a radius or step size, the option ``name``, can be meant.

    In L2 there is no bound here: images of N values lie up to sqrt(N) from each other.

    Raises:
        ValueError: it is negative, or in L-infinity beyond 1, the range of a pixel.
    """
    if not value >= 0:
        raise ValueError(f"{name}: {value:g} is negative; give a radius in [0,1], such as 8/255")
    if norm == "linf" and value > 1:
        raise ValueError(
            f"{name}: {value:g} is more than 1, the whole range of a pixel; did you mean "
            f"{value:g}/255?"
        )


def check_steps(eps: float, step_size: float, steps: int, norm: Norm = "linf") -> None:
    """Checks that a radius, a step size and a number of steps fit together.

    Raises:
        ValueError: as in ``check_radius``, a negative number, or a step size above the radius (are
            the two swapped?).
    """
    check_radius("eps", eps, norm)
    if step_size >= 0:
        check_radius("step", step_size, norm)
    if step_size < 0 or steps < 0:
        raise ValueError(f"step: step {step_size:g} and steps {steps} must not be negative")
    if steps > 1 and step_size > eps:
        raise ValueError(f"step: {step_size:g} is more than eps {eps:g}; are the two swapped?")
