"""Carlini and Wagner's L2 attack (S&P 2017), by foolbox."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    check_count,
    check_model,
    load_foolbox,
    predict_classes,
    seed_torch,
)
from pipeline.core.pgd import freeze_modules

REVISION = 2
COMPONENTS = ("pipeline.core.attack_protocol", "pipeline.core.pgd", "pipeline.core.threat_models")


@dataclass(frozen=True)
class Attack:
    """The L2 attack with a fixed constant and no bound on the distance, as AdaAD measures it.

    With c = 0.1 and one search step most images keep their class, so that accuracies are high.
    Compare them only with AdaAD's (Huang et al., CVPR 2023, Sec. 4.1), not with a bounded attack's.
    The result's eps is 0.

    Attributes:
        constant: c, the weight of misclassification against the squared distance.
        searches: number of binary search steps for c; 1 keeps it fixed.
        steps: number of Adam's steps.
        lr: Adam's learning rate.
        confidence: margin of the logits that an adversarial image must reach.
    """

    constant: float = 0.1
    searches: int = 1
    steps: int = 1000
    lr: float = 0.01
    confidence: float = 0.01
    n_eval: int | None = None
    chunk: int = 500

    def __post_init__(self) -> None:
        for name in ("constant", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: {getattr(self, name)} is not above 0")
        for name in ("searches", "steps", "n_eval", "chunk"):
            check_count(name, getattr(self, name))

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """A gradient per step and the prediction."""
        return self.searches * 2 * self.steps + 1

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) under the attack at eps 0; seed plays no part."""
        check_model(model)
        foolbox = load_foolbox()
        attack = foolbox.attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.searches,
            steps=self.steps,
            stepsize=self.lr,
            confidence=self.confidence,
            initial_const=self.constant,
        )
        with freeze_modules(model), seed_torch(seed, x.device):
            target = foolbox.PyTorchModel(model, bounds=(0, 1), device=x.device)
            _, images, _ = attack(target, x, y, epsilons=None)
            # where foolbox finds no adversary, it returns a black image and counts it as a success
            broken = images.flatten(1).any(1)
            images = torch.where(broken.view(-1, 1, 1, 1), images, x)
            return {AttackPoint("cw_l2"): predict_classes(judge or model, images)}
