"""Additional losses of a VQGAN: LPIPS and a patch discriminator (Esser et al., CVPR 2021)."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from taming.modules.discriminator.model import NLayerDiscriminator, weights_init
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.collectives import all_reduce_mean
from pipeline.core.lpips import LPIPS
from pipeline.models.vqgan import ReconstructionObjective

REVISION = 1

MAX_FACTOR = 1e4  # the largest factor that the adaptive rule gives
FACTOR_EPSILON = 1e-4  # added to a gradient's length


@dataclass(frozen=True)
class PerceptualLoss:
    """LPIPS and its weight."""

    network: LPIPS
    weight: float


@dataclass(frozen=True)
class AdversarialLoss:
    """Weight, start and rule of the adversarial term: see the section `adversarial`."""

    weight: float
    start: float
    rule: Literal["adaptive", "constant"]


class VQGANObjective(nn.Module):
    """``ReconstructionObjective`` with LPIPS, with a discriminator, or with both.

    With r = mean |x - Q(x)| + w LPIPS(x, Q(x)), g = -D(Q(x)) and W the decoder's last layer, the
    VQGAN's adversarial term is weight * lambda * g. Lambda is |dr/dW| / (|dg/dW| + 1e-4), at most
    1e4, by the adaptive rule (eq. 7), and 1 by the constant one. The discriminator's term is
    (max(0, 1 - D(x)) + max(0, 1 + D(sg(Q(x))))) / 2, a mean over patches. Both are zero before
    ``start``. Both terms use the weights before the step, and one optimiser updates both networks;
    each term's gradient reaches only its own network.
    """

    def __init__(
        self,
        reconstruction: ReconstructionObjective,
        perceptual_loss: PerceptualLoss | None,
        adversarial_loss: AdversarialLoss | None,
        discriminator: nn.Module | None,
    ):
        super().__init__()
        self.base, self.adversarial_loss, self.discriminator = (
            reconstruction,
            adversarial_loss,
            discriminator,
        )
        # nn.Module does not register tuples: fixed weights belong in no checkpoint
        self.perceptual_losses = () if perceptual_loss is None else (perceptual_loss,)

    def needs(self) -> tuple[str, ...]:
        """An empty tuple: only the student and the images are used."""
        return ()

    def prepare(self, roles: Roles, batch: Batch) -> None:
        """Move LPIPS to the images' device and freeze it."""
        for perceptual in self.perceptual_losses:
            perceptual.network.to(batch.x.device).requires_grad_(False).eval()

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """The VQGAN's terms, then the term ``discriminator``; each is (B,)."""
        image, terms = self.base.reconstruct_batch(roles.student, batch)
        for perceptual in self.perceptual_losses:
            terms["perceptual"] = perceptual.weight * perceptual.network(batch.x, image)
        if self.adversarial_loss is None:
            yield terms
            return
        zero = torch.zeros_like(terms["reconstruction"])
        if batch.progress < self.adversarial_loss.start:
            yield {**terms, "adversarial": zero, "discriminator": zero}
            return
        with freeze_parameters(self.discriminator):
            generator_loss = -self.judge_images(image)
        reconstruction_loss = terms["reconstruction"] + terms.get("perceptual", 0.0)
        last_weight = roles.student.decoder.conv_out.weight
        factor = self.adversarial_loss.weight * self.compute_factor(
            reconstruction_loss.mean(), generator_loss.mean(), last_weight
        )
        yield {**terms, "adversarial": factor * generator_loss}
        real, fake = self.judge_patches(batch.x), self.judge_patches(image.detach())
        hinge = ((1 - real).relu() + (1 + fake).relu()) / 2
        yield {"discriminator": hinge.flatten(1).mean(1)}

    def judge_patches(self, x: Tensor) -> Tensor:
        """The discriminator's output (B,1,h,w) on images in [0,1]: above 0 for real patches."""
        return self.discriminator(2 * x - 1)

    def judge_images(self, x: Tensor) -> Tensor:
        """The discriminator's mean output (B,) on images in [0,1]."""
        return self.judge_patches(x).flatten(1).mean(1)

    def compute_factor(
        self, reconstruction_loss: Tensor, generator_loss: Tensor, last_weight: Tensor
    ) -> Tensor | float:
        """Lambda: the ratio of the two gradients' lengths at the last layer, or 1."""
        if self.adversarial_loss.rule == "constant":
            return 1.0
        gradients = [
            torch.autograd.grad(loss, last_weight, retain_graph=True)[0]
            for loss in (reconstruction_loss, generator_loss)
        ]
        a, b = all_reduce_mean(gradients)
        return (a.norm() / (b.norm() + FACTOR_EPSILON)).clamp(max=MAX_FACTOR).detach()


@contextmanager
def freeze_parameters(module: nn.Module) -> Iterator[None]:
    """Disable gradients of a module's parameters within the block; its mode is unchanged."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)


def make_discriminator(channels: int, width: int, layers: int) -> nn.Module:
    """Pix2pix's patch discriminator, initialised as in taming from torch's global generator."""
    return NLayerDiscriminator(channels, width, layers).apply(weights_init)
