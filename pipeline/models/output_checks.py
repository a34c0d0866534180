"""Signs in a classifier's outputs that gradient attacks cannot be trusted on it.

Carlini et al. (arXiv:1902.06705) and Athalye et al. (ICML 2018) name them: outputs of a softmax,
gradients that are zero, outputs that chance changes, and inputs that are rounded.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pipeline.core.pgd import freeze_modules
from pipeline.core.seeding import make_generator

REVISION = 1

SUM_TOLERANCE = 1e-4  # of a row of probabilities about 1
CHANCE_TOLERANCE = 1e-3  # relative; below it two forwards of one network may differ on a GPU
SATURATED_LOSS = 1e-7  # cross-entropy below which float32 leaves hardly any gradient
MOST = 0.5  # share of the images that must show a sign
GREY_LEVEL = 1 / 255
FORMS = ("logits", "probabilities", "log-probabilities")


@dataclass(frozen=True)
class OutputChecks:
    """What a classifier's outputs on some images look like.

    Attributes:
        images: number of images.
        form: what the outputs are: one of ``FORMS``.
        random: share of images whose outputs differ between two forwards.
        rounded: share of images whose outputs do not change while pixels move by less than half a
            grey level; 0 where chance changes outputs.
        zero_gradient: share of images on which the gradient of the cross-entropy is zero, not
            finite, or not there.
        saturated: share of images whose predicted class has a cross-entropy of nearly zero.
        has_gradient: whether outputs depend on the images in a way that autograd can follow.
    """

    images: int
    form: str
    random: float
    rounded: float
    zero_gradient: float
    saturated: float
    has_gradient: bool = True

    @property
    def is_differentiable(self) -> bool:
        """Whether gradients say something: outputs are neither random, nor rounded, nor flat."""
        return max(self.random, self.rounded, self.zero_gradient) <= MOST


def check_outputs(model: nn.Module, x: Tensor, y: Tensor) -> OutputChecks:
    """Checks a classifier in eval mode on images (B,C,H,W) in [0,1] with labels (B,)."""
    with torch.no_grad():
        first, second = model(x), model(x)
    differs = (first - second).abs().amax(1) > CHANCE_TOLERANCE * (1 + first.abs().amax(1))
    random = differs.float().mean().item()
    loss = cross_entropy(first, first.argmax(1), reduction="none")
    gradients = compute_gradients(model, x, y)
    return OutputChecks(
        images=len(x),
        form=name_form(first),
        random=random,
        rounded=0.0 if random > MOST else measure_rounding(model, x),
        zero_gradient=1.0 if gradients is None else measure_zero_gradients(gradients),
        saturated=(loss < SATURATED_LOSS).float().mean().item(),
        has_gradient=gradients is not None,
    )


def name_form(outputs: Tensor) -> str:
    """What outputs (B,K) are: logits, probabilities, or log-probabilities."""
    if is_one(outputs.sum(1)) and bool((outputs >= 0).all()):
        return "probabilities"
    if is_one(outputs.exp().sum(1)) and bool((outputs <= SUM_TOLERANCE).all()):
        return "log-probabilities"
    return "logits"


def is_one(sums: Tensor) -> bool:
    """Whether all sums (B,) are 1."""
    return bool(((sums - 1).abs() < SUM_TOLERANCE).all())


def measure_rounding(model: nn.Module, x: Tensor) -> float:
    """Share of images whose outputs are the same at two places within one grey level.

    Both lie between a tenth and four tenths above the image's own levels, where neither rounding
    nor cutting off reaches another level.
    """
    rng = make_generator("output checks")
    shifts = [(0.1 + 0.3 * torch.rand(x.shape, generator=rng)).to(x) for _ in range(2)]
    with torch.no_grad():
        one, two = (model((x + GREY_LEVEL * shift).clamp(0, 1)) for shift in shifts)
    return (one == two).all(1).float().mean().item()


def compute_gradients(model: nn.Module, x: Tensor, y: Tensor) -> Tensor | None:
    """The gradient (B,C,H,W) of the cross-entropy; None if autograd finds no way to the images."""
    x = x.detach().clone().requires_grad_()
    with freeze_modules(model), torch.enable_grad():
        loss = cross_entropy(model(x), y, reduction="sum")
        if not loss.requires_grad:
            return None
        return torch.autograd.grad(loss, x, allow_unused=True)[0]


def measure_zero_gradients(gradients: Tensor) -> float:
    """Share of gradients (B,C,H,W) that are zero everywhere, or not finite."""
    flat = gradients.flatten(1)
    has_none = (flat == 0).all(1) | ~flat.isfinite().all(1)
    return has_none.float().mean().item()


class ZeroGradientClassifier(nn.Module):
    """A classifier that autograd cannot see through, with gradients of zero in their place.

    Attacks that need a gradient run on it and find nothing, where they would raise an error.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model
        self.train(model.training)

    def forward(self, x: Tensor) -> Tensor:
        """The classifier's logits (B,K) of images (B,C,H,W) in [0,1]."""
        return self.model(x).detach() + 0 * x.flatten(1).sum(1, keepdim=True)


def compute_confidences(outputs: Tensor) -> Tensor:
    """Probabilities (B,) of the predicted classes, of outputs (B,K) of any form."""
    if name_form(outputs) == "probabilities":
        return outputs.amax(1)
    return outputs.softmax(1).amax(1)
