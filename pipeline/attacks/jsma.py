"""The Jacobian saliency map attack (Papernot et al., EuroS&P 2016), by ART."""

import math
from dataclasses import dataclass

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
NEEDED_PACKAGE = ("art", "pip install 'retort[jsma]'")  # what a run needs, and how to get it
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")


@dataclass(frozen=True)
class Attack:
    """Changes few pixels a lot, towards a random wrong class; the result's eps is 0.

    AdaAD measures it as a transfer attack (Huang et al., CVPR 2023, Table 4).

    Attributes:
        theta: how far one change moves a pixel, in pixels of [0,1].
        gamma: share of the pixels that may change.
    """

    theta: float = 1.0
    gamma: float = 0.05
    n_eval: int | None = None
    chunk: int = 100

    def __post_init__(self) -> None:
        for name in ("theta", "gamma"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}: {getattr(self, name)} is outside (0, 1]")
        for name in ("n_eval", "chunk"):
            check_count(name, getattr(self, name))

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient for each pair of pixels that may change, and two predictions."""
        return 3 * math.ceil(self.gamma * math.prod(shape) / 2) + 2

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) under the attack at eps 0; the seed draws the targets.

        Raises:
            RetortError: ART is not installed.
        """
        try:
            from art.attacks.evasion import SaliencyMapMethod
            from art.estimators.classification import PyTorchClassifier
        except ImportError as error:
            raise RetortError(f"attack jsma: needs ART; {NEEDED_PACKAGE[1]}") from error
        check_model(model)
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        rng = torch.Generator().manual_seed(seed)
        target = (y.cpu() + torch.randint(1, classes, y.shape, generator=rng)) % classes
        with freeze_modules(model):
            classifier = PyTorchClassifier(
                model,
                nn.CrossEntropyLoss(),
                tuple(x.shape[1:]),
                classes,
                clip_values=(0.0, 1.0),
                device_type="gpu" if x.is_cuda else "cpu",
            )
            library = SaliencyMapMethod(classifier, self.theta, self.gamma, len(x), verbose=False)
            images = torch.from_numpy(library.generate(x.cpu().numpy(), target.numpy()))
        return {AttackPoint("jsma"): predict_classes(judge or model, images.to(x))}
