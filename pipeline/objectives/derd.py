"""DERD, stage II: a robust student from two teachers and generated samples, without data."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.inner_attack import PathSettings, climb_loss
from pipeline.core.losses import cross_entropy, kl_divergence, probability_gap
from pipeline.core.pgd import freeze_modules
from pipeline.core.threat_models import MIN_NORM, Unconstrained, check_radius
from pipeline.objectives.data_free_kd import get_natural_logits

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.objectives.data_free_kd",
)


def dot_product(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Inner product of two gradients, each a list of tensors read as one vector."""
    return torch.stack([(a * b).sum() for a, b in zip(first, second, strict=True)]).sum()


def cosine_similarity(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """Cosine of the angle between two gradients, a scalar; 0 where one of them is zero."""
    lengths = dot_product(first, first).sqrt() * dot_product(second, second).sqrt()
    return dot_product(first, second) / lengths.clamp_min(MIN_NORM)


def harmonise_gradients(first: list[Tensor], second: list[Tensor]) -> list[Tensor]:
    """tau_1 g_1 + tau_2 g_2, which has no negative component along either (DERD, eqs. 18-21).

    tau_k = 1 - g_1.g_2 / ||g_k||^2 where g_1.g_2 < 0, else 1. That is the sum of the mutual
    projections, i.e. PCGrad (Yu et al., NeurIPS 2020) with two tasks.
    """
    conflict = dot_product(first, second).clamp_max(0)
    tau_1 = 1 - conflict / dot_product(first, first).clamp_min(MIN_NORM)
    tau_2 = 1 - conflict / dot_product(second, second).clamp_min(MIN_NORM)
    return [tau_1 * a + tau_2 * b for a, b in zip(first, second, strict=True)]


def draw_weight_noise(student: nn.Module, rng: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Each trainable weight with N(0, I) noise of its shape; biases and BatchNorm are left out."""
    weights = [p for p in student.parameters() if p.requires_grad and p.ndim > 1]
    return [
        (p, torch.randn(p.shape, generator=rng, device=p.device, dtype=p.dtype)) for p in weights
    ]


@dataclass(frozen=True)
class Objective:
    """Self-adversary, expert guiding and gradient aggregation (DERD, Sec. 3.3, eqs. 12-25).

    Images x_d climb D(T_nat, T_rob) + lambda_d CE(T_nat, y) from x, y = argmax T_nat(x), bounded
    only by the image range. There the student learns from both teachers; ``combine`` merges their
    gradients. One step costs 5 F_S and, for n ascent steps, 4 n + 2 F_T.

    Attributes:
        steps: number of ascent steps n.
        step: size of an ascent step, in pixels of [0,1].
        lambda_d: weight of the cross-entropy in the ascent.
        lambda_rob: weight of the robust teacher's term.
        tau: size of the stochastic regulariser.
        discrepancy: D is the L1 distance of the softmax outputs or of the logits.
        self_adversary: False trains on x itself.
        expert: False leaves the natural teacher's term out.
        harmonise: False adds the gradients as they are.
        sga: "decay" is tau ||r * theta||_2 (eqs. 23-25), "additive" the gradient tau r (eq. 22).
    """

    needs_whole_batch: ClassVar[str] = "SGA's noise is drawn once an update"

    steps: int = 10
    step: float = 2 / 255
    lambda_d: float = 1.0
    lambda_rob: float = 1.0
    tau: float = 1e-4
    discrepancy: Literal["probs", "logits"] = "probs"
    self_adversary: bool = True
    expert: bool = True
    harmonise: bool = True
    sga: Literal["decay", "additive", "none"] = "decay"

    def __post_init__(self) -> None:
        check_radius("step", self.step)

    def needs(self) -> tuple[str, ...]:
        """A generator and the two teachers."""
        return ("generated", "natural", "robust")

    def measure_disagreement(self, natural: Tensor, robust: Tensor) -> Tensor:
        """D (B,): how far two teachers' logits (B,K) lie apart."""
        if self.discrepancy == "probs":
            return probability_gap(natural, robust)
        return (natural - robust).abs().sum(1)

    def make_discrepant_images(self, roles: Roles, batch: Batch) -> Tensor:
        """x_d (B,C,H,W): images on which the teachers disagree (DERD, eqs. 13-15)."""
        if not self.self_adversary:
            return batch.x
        natural, robust = roles.teachers["natural"], roles.teachers["robust"]
        label = get_natural_logits(roles, batch).argmax(1)

        def compute_ascent_loss(z: Tensor, label: Tensor) -> Tensor:
            logits = natural(z)
            return self.measure_disagreement(logits, robust(z)) + self.lambda_d * cross_entropy(
                logits, label
            )

        settings = PathSettings(Unconstrained(), self.steps, self.step, dtype=batch.attack_dtype)
        images, networks, reads = batch.x.detach(), (natural, robust), (label,)
        with freeze_modules(*networks):
            return climb_loss(
                settings, images, compute_ascent_loss, networks, images, batch.ascents, reads
            )

    def compute_regulariser(self, student: nn.Module, rng: torch.Generator) -> Tensor:
        """SGA's scalar; "additive" is linear in theta, so that its gradient is tau r."""
        pairs = draw_weight_noise(student, rng)
        if self.sga == "additive":
            return self.tau * torch.stack([(r * p).sum() for p, r in pairs]).sum()
        return self.tau * torch.stack([(r * p).square().sum() for p, r in pairs]).sum().sqrt()

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary: "natural" and "robust" (B,) nats, "sga" a scalar expanded to (B,)."""
        x = self.make_discrepant_images(roles, batch)
        logits = roles.student(x)
        terms = {}
        with torch.no_grad():
            targets = {r: roles.teachers[r](x) for r in self.list_teacher_roles()}
        if self.expert:
            terms["natural"] = kl_divergence(logits, targets["natural"])
        terms["robust"] = self.lambda_rob * kl_divergence(logits, targets["robust"])
        if self.sga != "none":
            terms["sga"] = self.compute_regulariser(roles.student, batch.rng).expand(len(x))
        yield terms

    def list_teacher_roles(self) -> tuple[str, ...]:
        """The teachers whose outputs the student learns."""
        return ("natural", "robust") if self.expert else ("robust",)

    def combine(
        self, grads: dict[str, list[Tensor]], params: list[Tensor]
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """One gradient per parameter, merged from the terms', and the cosine to log (Fig. 5).

        Args:
            grads: for each term of ``__call__``, one tensor per parameter (zeros where unused).
            params: the parameters, in the same order.
        """
        scalars = {}
        merged = grads["robust"]
        if "natural" in grads:
            scalars["cosine"] = cosine_similarity(grads["natural"], merged)
            if self.harmonise:
                merged = harmonise_gradients(grads["natural"], merged)
            else:
                merged = [a + b for a, b in zip(grads["natural"], merged, strict=True)]
        if "sga" in grads:
            merged = [a + b for a, b in zip(merged, grads["sga"], strict=True)]
        return merged, scalars
