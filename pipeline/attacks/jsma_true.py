"""JSMA with the true labels as targets, as AdaAD's Table 4 runs it: hardly an attack."""

from dataclasses import dataclass

from torch import Tensor, nn

from pipeline.attacks import jsma
from pipeline.core.attack_protocol import AttackPoint, Predictions, check_model, predict_classes

REVISION = 1
NEEDED_PACKAGE = jsma.NEEDED_PACKAGE
COMPONENTS = (
    "pipeline.attacks.jsma",
    "pipeline.core.attack_protocol",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)


@dataclass(frozen=True)
class Attack:
    """Moves each image towards its own label; the result's eps is 0.

    Images that the attacked model classifies correctly stay as they are, and the others are moved
    to the right class, so a transferred accuracy is about the clean one. It is here to reproduce a
    printed column (Huang et al., CVPR 2023, Table 4); the attack is ``attacks/jsma``.

    Attributes:
        theta: how far one change moves a pixel, in pixels of [0,1].
        gamma: share of the pixels that may change.
    """

    theta: float = 1.0
    gamma: float = 0.05
    n_eval: int | None = None
    chunk: int = 100

    def __post_init__(self) -> None:
        jsma.check_saliency_options(self)

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient for each pair of pixels that may change, and two predictions."""
        return jsma.count_saliency_passes(self.gamma, shape)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) at eps 0; nothing is drawn.

        Raises:
            RetortError: ART is not installed.
        """
        check_model(model)
        images = jsma.make_saliency_images(model, x, y, self.theta, self.gamma)
        return {AttackPoint("jsma_true"): predict_classes(judge or model, images)}
