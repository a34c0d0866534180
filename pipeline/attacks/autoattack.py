"""Standard AutoAttack (Croce and Hein, ICML 2020) by pyautoattack, the official code packaged.

On fewer than four classes the targeted DLR loss is not defined; APGD-CE, FAB and Square remain.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    check_count,
    check_model,
    check_radii,
    predict_classes,
    seed_torch,
)
from pipeline.core.pgd import freeze_modules

REVISION = 2
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")

PASSES_PER_UNBROKEN_IMAGE = 9_800  # forwards and input gradients with ten classes, counted
MIN_CLASSES = 4  # the targeted DLR loss divides by the third and fourth largest logits
FEW_CLASSES_ATTACKS = ("apgd-ce", "fab", "square")
FEW_CLASSES_VARIANT = "APGD-CE, FAB, Square"


@dataclass(frozen=True)
class Attack:
    """APGD-CE, targeted APGD-DLR, targeted FAB and Square in the L-infinity ball.

    On fewer than four classes it is APGD-CE, untargeted FAB, each with five restarts, and Square,
    and its results say so. A sample that the model already misclassifies keeps its clean
    prediction; so does one that no attack breaks. With C < 10 classes the targeted attacks go
    through all C - 1 others.

    Attributes:
        eps: radius, in pixels of [0,1].
    """

    eps: float = 8 / 255
    n_eval: int | None = None
    chunk: int = 100

    def __post_init__(self) -> None:
        check_radii(self.eps)
        check_count("n_eval", self.n_eval)
        check_count("chunk", self.chunk)

    def explain_variant(self, shape: tuple[int, ...], class_count: int) -> str:
        """Which attacks remain on so few classes; empty where it is the standard AutoAttack."""
        if class_count >= MIN_CLASSES:
            return ""
        return (
            f"the standard AutoAttack needs {MIN_CLASSES} classes, the model has {class_count}; "
            f"{FEW_CLASSES_VARIANT} run, and the table says so"
        )

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """The passes of an image that no attack breaks."""
        return PASSES_PER_UNBROKEN_IMAGE

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) at eps: the library's own for this chunk and seed."""
        from pyautoattack import AutoAttack

        check_model(model)
        with torch.no_grad():
            classes = model(x[:1]).shape[1]
        x = x.contiguous()  # the library calls .view, which fails on channels_last images
        with freeze_modules(model), seed_torch(seed, x.device):
            version, variant, attacks = "standard", None, None
            if classes < MIN_CLASSES:
                version, variant, attacks = "custom", FEW_CLASSES_VARIANT, [*FEW_CLASSES_ATTACKS]
            library = AutoAttack(
                model,
                eps=self.eps,
                norm="Linf",
                seed=seed,
                device=x.device,
                version=version,
                attacks=attacks,
            )
            targets = min(9, classes - 1)
            library.apgd_targeted.n_target_classes = library.fab.n_target_classes = targets
            images, predictions = library.run_standard_evaluation(x, y, batch_size=len(x))
            if judge is not None:
                predictions = predict_classes(judge, images)
        return {AttackPoint("autoattack", float(self.eps), variant=variant): predictions}
