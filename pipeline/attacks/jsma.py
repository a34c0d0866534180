"""The Jacobian saliency map attack (Papernot et al., EuroS&P 2016), by ART."""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    check_count,
    check_model,
    predict_classes,
)
from pipeline.core.pgd import freeze_modules
from pipeline.errors import RetortError

REVISION = 2
NEEDED_PACKAGE = ("art", "pip install '/path/to/retort[jsma]'")  # what a run needs; how to get it
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")


class SaliencyOptions(Protocol):
    """The fields of an attack by saliency maps."""

    @property
    def theta(self) -> float:
        """How far one change moves a pixel, in pixels of [0,1]."""

    @property
    def gamma(self) -> float:
        """Share of the pixels that may change."""

    @property
    def n_eval(self) -> int | None:
        """Number of images."""

    @property
    def chunk(self) -> int:
        """Number of images at once."""


def check_saliency_options(options: SaliencyOptions) -> None:
    """Raise ValueError for options that cannot be meant."""
    for name, share in (("theta", options.theta), ("gamma", options.gamma)):
        if not 0 < share <= 1:
            raise ValueError(f"{name}: {share} is outside (0, 1]")
    check_count("n_eval", options.n_eval)
    check_count("chunk", options.chunk)


def count_saliency_passes(gamma: float, shape: tuple[int, ...]) -> int:
    """A gradient for each pair of pixels of an image (C,H,W) that may change, two predictions."""
    return 3 * math.ceil(gamma * math.prod(shape) / 2) + 2


def make_saliency_images(
    model: nn.Module, x: Tensor, target: Tensor, theta: float, gamma: float
) -> Tensor:
    """Images x (B,C,H,W) moved towards the classes ``target`` (B,) int64 by saliency maps.

    An image that the model already gives its target stays as it is.

    Raises:
        RetortError: ART is not installed.
    """
    try:
        from art.attacks.evasion import SaliencyMapMethod
        from art.estimators.classification import PyTorchClassifier
    except ImportError as error:
        raise RetortError(f"attack jsma: needs ART; {NEEDED_PACKAGE[1]}") from error
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    with freeze_modules(model), torch.random.fork_rng(devices=[]):  # ART's loaders draw a seed
        classifier = PyTorchClassifier(
            model,
            nn.CrossEntropyLoss(),
            tuple(x.shape[1:]),
            classes,
            clip_values=(0.0, 1.0),
            device_type="gpu" if x.is_cuda else "cpu",
        )
        library = SaliencyMapMethod(classifier, theta, gamma, len(x), verbose=False)
        images = torch.from_numpy(library.generate(x.cpu().numpy(), target.cpu().numpy()))
    return images.to(x)


@dataclass(frozen=True)
class Attack:
    """Changes few pixels a lot, towards a random wrong class; the result's eps is 0.

    AdaAD measures a transfer attack of this name (Huang et al., CVPR 2023, Table 4), with the true
    labels as targets: ``attacks/jsma_true``.

    Attributes:
        theta: how far one change moves a pixel, in pixels of [0,1].
        gamma: share of the pixels that may change.
    """

    theta: float = 1.0
    gamma: float = 0.05
    n_eval: int | None = None
    chunk: int = 100

    def __post_init__(self) -> None:
        check_saliency_options(self)

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient for each pair of pixels that may change, and two predictions."""
        return count_saliency_passes(self.gamma, shape)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) under the attack at eps 0; the seed draws the targets.

        Raises:
            RetortError: ART is not installed.
        """
        check_model(model)
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        rng = torch.Generator().manual_seed(seed)
        target = (y.cpu() + torch.randint(1, classes, y.shape, generator=rng)) % classes
        images = make_saliency_images(model, x, target, self.theta, self.gamma)
        return {AttackPoint("jsma"): predict_classes(judge or model, images)}
