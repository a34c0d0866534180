"""Auto-PGD alone (Croce and Hein, ICML 2020), by pyautoattack, with a choice of losses."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

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

REVISION = 1
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")

MODEL_CHECK_FORWARDS = 15  # forwards of the library's initial check of the model
DLR_CLASSES = 3  # the loss divides by the difference of the first and third largest logits


def compute_squared_error(logits: Tensor, y: Tensor) -> Tensor:
    """Mean over classes of (softmax(z) - one-hot(y))^2 for logits (B,K), labels (B,): (B,)."""
    return (logits.softmax(1) - one_hot(y, logits.shape[1])).square().mean(1)


@dataclass(frozen=True)
class Attack:
    """APGD from a uniform start in the L-infinity ball; it halves its steps where it stalls.

    A sample that the model already misclassifies keeps its clean prediction.

    Attributes:
        eps: radius, in pixels of [0,1].
        loss: what is raised: "ce", the cross-entropy; "dlr", the difference of logits ratio; "mse",
            the squared error of the probabilities.
        steps: number of steps.
        restarts: number of starts; a sample counts as attacked if any of them succeeds.
    """

    eps: float = 8 / 255
    loss: Literal["ce", "dlr", "mse"] = "ce"
    steps: int = 100
    restarts: int = 1
    n_eval: int | None = None
    chunk: int = 100

    def __post_init__(self) -> None:
        check_radii(self.eps)
        for name in ("steps", "restarts", "n_eval", "chunk"):
            check_count(name, getattr(self, name))

    def explain_misfit(self, shape: tuple[int, ...], class_count: int) -> str:
        """Why the loss has no meaning on so many classes; empty if it has."""
        if self.loss != "dlr" or class_count >= DLR_CLASSES:
            return ""
        return f"the loss dlr needs {DLR_CLASSES} classes, the model has {class_count}; use ce"

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient per step and start, as for an image that no start breaks."""
        return 2 * self.restarts * (self.steps + 1) + MODEL_CHECK_FORWARDS

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) at eps: the library's own for this chunk and seed."""
        from pyautoattack import AutoAttack

        check_model(model)
        x = x.contiguous()  # the library calls .view, which fails on channels_last images
        with freeze_modules(model), seed_torch(seed, x.device):
            library = AutoAttack(
                model,
                eps=self.eps,
                norm="Linf",
                seed=seed,
                device=x.device,
                version="custom",
                attacks=["apgd-ce" if self.loss == "ce" else "apgd-dlr"],
            )
            library.apgd.n_iter, library.apgd.n_restarts = self.steps, self.restarts
            if self.loss == "mse":
                library.apgd.dlr_loss = compute_squared_error
            images, _ = library.run_standard_evaluation(x, y, batch_size=len(x))
        point = AttackPoint(
            "apgd", float(self.eps), self.steps, restarts=self.restarts, variant=self.loss
        )
        with torch.no_grad():
            return {point: predict_classes(judge or model, images)}
