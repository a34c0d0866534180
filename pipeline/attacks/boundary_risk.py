"""How near to the decision boundary an attack's intermediate samples lie (DARWIN, Table 8)."""

from dataclasses import dataclass, replace

from torch import Tensor, nn

from pipeline.attacks import pgd
from pipeline.core.attack_protocol import (
    AttackPoint,
    Predictions,
    check_count,
    check_model,
    check_steps,
    predict_classes,
)
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import Linf

REVISION = 2
COMPONENTS = (
    "pipeline.attacks.pgd",
    "pipeline.core.attack_protocol",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.seeding",
    "pipeline.core.threat_models",
)


@dataclass(frozen=True)
class Attack:
    """Predictions on x and on samples i < steps of the path up CE(S, y), each then probed by PGD.

    A point's ``sample`` is 0 for x itself and i for the i-th step. Its ``probe`` is None for the
    sample as it is, and the probe's number of steps for the result of PGD in the ball around that
    sample. The path begins at x + 0.001 N(0, I), as DARWIN's does in training.

    Attributes:
        eps: radius of the path's ball around x, and of the probe's around each sample, in pixels of
            [0,1].
        step: size of a step of path and probe, in pixels of [0,1].
        steps: number of the path's steps; the last sample is the attack's result, not intermediate.
        probe: number of the probe's PGD steps.
    """

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    probe: int = 20
    n_eval: int | None = None
    chunk: int = 500

    def __post_init__(self) -> None:
        check_steps(self.eps, self.step, self.steps)
        for name in ("probe", "n_eval", "chunk"):
            check_count(name, getattr(self, name))
        if self.eps <= 0 or self.steps < 2:
            raise ValueError(
                f"steps: {self.steps} of a radius {self.eps:g} have no intermediate sample; give 2 "
                "steps or more and a radius above 0"
            )

    def count_passes(self, shape: tuple[int, ...]) -> int:
        """The path's gradients, and a probe with two predictions for x and each sample."""
        probed = self.make_probe_attack().count_passes(shape) + 1
        return 2 * (self.steps - 1) + self.steps * probed

    def make_probe_attack(self) -> pgd.Attack:
        """The PGD attack that probes each sample."""
        return pgd.Attack(eps=self.eps, step=self.step, steps=self.probe)

    def __call__(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int, judge: nn.Module | None = None
    ) -> Predictions:
        """Predictions (B,) of each sample, before and after the probe."""
        check_model(model)
        found = {}
        for i, z in enumerate([x, *self.make_intermediate_samples(model, x, y, seed)]):
            point = AttackPoint("boundary_risk", self.eps, sample=i)
            found[point] = predict_classes(judge or model, z)
            (probed,) = self.make_probe_attack()(model, z, y, seed, judge).values()
            found[replace(point, probe=self.probe)] = probed
        return found

    def make_intermediate_samples(
        self, model: nn.Module, x: Tensor, y: Tensor, seed: int
    ) -> list[Tensor]:
        """The intermediate samples 1 to ``steps`` - 1, each (B,C,H,W)."""
        samples: list[Tensor] = []
        rng = make_generator("path", seed, device=x.device)
        with freeze_modules(model):
            run_pgd(
                x,
                lambda z: cross_entropy(model(z), y),
                Linf(self.eps),
                steps=self.steps - 1,
                step_size=self.step,
                start="gauss",
                rng=rng,
                iterates=samples,
            )
        return samples
