"""The Square attack alone (Andriushchenko et al., ECCV 2020), AutoAttack's black box."""

from dataclasses import dataclass

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

MODEL_CHECK_FORWARDS = 15  # forwards of the library's initial check of the model


@dataclass(frozen=True)
class Attack:
    """Random search with squares in the L-infinity ball; it reads logits, no gradients.

    A sample that the model already misclassifies keeps its clean prediction.

    Attributes:
        eps: radius, in pixels of [0,1].
        queries: number of forwards that a sample may cost at most.
        p_init: share of the pixels that the first squares cover.
    """

    eps: float = 8 / 255
    queries: int = 5000
    p_init: float = 0.8
    n_eval: int | None = None
    chunk: int = 100

    def __post_init__(self) -> None:
        check_radii(self.eps)
        if not 0 < self.p_init <= 1:
            raise ValueError(f"p_init: {self.p_init} is outside (0, 1]")
        for name in ("queries", "n_eval", "chunk"):
            check_count(name, getattr(self, name))

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A forward per query, as for an image that no query breaks."""
        return self.queries + MODEL_CHECK_FORWARDS

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
                attacks=["square"],
            )
            library.square.n_queries, library.square.p_init = self.queries, self.p_init
            images, _ = library.run_standard_evaluation(x, y, batch_size=len(x))
        point = AttackPoint("square", float(self.eps))
        return {point: predict_classes(judge or model, images)}
