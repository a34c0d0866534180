"""The inner attack that adversarial methods share: it attacks the student before its update."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch
from pipeline.core.devices.ascent_graph import AscentGraphs, identify_function
from pipeline.core.pgd import Start, freeze_for_attack, make_first_iterate, run_pgd
from pipeline.core.threat_models import L2, Linf, Norm, ThreatModel, check_steps

REVISION = 1


@dataclass(frozen=True)
class InnerAttack:
    """Radius, steps, start and BatchNorm mode of an attack on the student.

    Attributes:
        eps: radius of the ball, in pixels of [0,1].
        step: size of a step, in pixels of [0,1].
        steps: number of steps; 0 trains on the start itself.
        start: "clean" x, "gauss" x + 0.001 N(0,I), or "uniform" in the ball.
        attack_bn: mode of the student's BatchNorm while it is attacked.
        norm: of the ball; an objective sets it, and no configuration does.

    Raises:
        ValueError: the radius, step size and steps do not fit together.
    """

    eps: float = 8 / 255
    step: float = 2 / 255
    steps: int = 10
    start: Start = "gauss"
    attack_bn: Literal["eval", "train"] = "eval"
    norm: Norm = "linf"

    def __post_init__(self) -> None:
        check_steps(self.eps, self.step, self.steps, self.norm)

    @property
    def ball(self) -> Linf | L2:
        """The ball that the attack stays in."""
        return Linf(self.eps) if self.norm == "linf" else L2(self.eps)


def declare_attack_options(
    default: InnerAttack | None = None,
    *,
    fixed: Collection[str] = (),
    neutral: Collection[str] = (),
) -> Any:
    """The dataclass field ``inner_attack`` of an objective; its options are those of `InnerAttack`.

    Args:
        default: the objective's own defaults; RSLAD's if none are given.
        fixed: fields that are not options; they stay as in the default.
        neutral: options that are left out of the key while they have their default.
    """
    metadata = {"fixed": (*fixed, "norm"), "neutral_options": neutral}
    return field(default=default or InnerAttack(), metadata=metadata)


def make_adversarial_examples(
    attack: InnerAttack,
    batch: Batch,
    loss: Callable[..., Tensor],
    student: nn.Module,
    *teachers: nn.Module,
    reads: tuple[Tensor, ...] | None = None,
) -> Tensor:
    """Images x* (B,C,H,W), detached, that raise a loss in the ball around ``batch.x``.

    Args:
        attack: its radius, steps, start and BatchNorm mode.
        batch: its generator draws the start's noise; its dtype rounds the attack.
        loss: maps z (B,C,H,W), and what it reads, to (B,).
        student: frozen while it is attacked; its BatchNorm mode is that of the attack.
        teachers: those that the loss's gradient passes through; frozen as well.
        reads: the tensors that the loss takes after z. If they are given, even none, nothing else
            of the step may change the loss; then `compile: graph` can repeat the ascent.
    """
    settings = PathSettings(attack.ball, attack.steps, attack.step, dtype=batch.attack_dtype)
    with freeze_for_attack(student, *teachers, bn=attack.attack_bn):
        start = make_first_iterate(batch.x, attack.ball, attack.start, batch.rng).detach()
        networks = (student, *teachers)
        x_adv = climb_loss(settings, batch.x, loss, networks, start, batch.ascents, reads)
    return batch.note_made(x_adv)


@dataclass(frozen=True)
class PathSettings:
    """What an ascent depends on beside tensors: `run_pgd` explains its fields."""

    ball: ThreatModel
    steps: int
    step: float
    sign: int = +1
    dtype: torch.dtype | None = None


def climb_loss(
    settings: PathSettings,
    x: Tensor,
    loss: Callable[..., Tensor],
    networks: tuple[nn.Module, ...],
    start: Tensor,
    ascents: AscentGraphs | None,
    reads: tuple[Tensor, ...] | None,
) -> Tensor:
    """The last iterate (B,C,H,W), detached, of an ascent around x.

    Args:
        loss: maps z (B,C,H,W), and what it reads, to (B,).
        networks: those that the loss runs; the caller has frozen them.
        start: the first iterate.
        ascents: captures and repeats the ascent; None runs it eagerly.
        reads: as in `make_adversarial_examples`.
    """
    return trace_path(settings, x, loss, networks, start, ascents, reads)[-1]


def trace_path(
    settings: PathSettings,
    x: Tensor,
    loss: Callable[..., Tensor],
    networks: tuple[nn.Module, ...],
    start: Tensor,
    ascents: AscentGraphs | None,
    reads: tuple[Tensor, ...] | None,
    *,
    keeps_all: bool = False,
) -> list[Tensor]:
    """The iterates (B,C,H,W) of an ascent: the last one, or all; as `climb_loss`."""

    def ascend(start: Tensor, x: Tensor, *given: Tensor) -> list[Tensor]:
        path: list[Tensor] = []
        last = run_pgd(
            x,
            lambda z: loss(z, *given),
            settings.ball,
            steps=settings.steps,
            step_size=settings.step,
            start=start,
            sign=settings.sign,
            iterates=path if keeps_all else None,
            dtype=settings.dtype,
        )
        return path if keeps_all else [last]

    if ascents is None or reads is None:
        return ascend(start, x, *(reads or ()))
    about = settings, keeps_all, identify_function(loss)
    return ascents.run(ascend, networks, about, start, x, *reads)


def make_examples_against(
    attack: InnerAttack,
    batch: Batch,
    student: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    target: Tensor,
) -> Tensor:
    """Images x* (B,C,H,W), detached, that raise ``loss(S(x'), target)``, a target that stays.

    Args:
        attack: its radius, steps, start and BatchNorm mode.
        batch: its generator draws the start's noise; its dtype rounds the attack.
        student: frozen while it is attacked; its BatchNorm mode is that of the attack.
        loss: maps the student's logits (B,K) and the target to (B,).
        target: labels (B,), mixed labels (B,K) or a teacher's logits (B,K).
    """
    return make_adversarial_examples(
        attack, batch, lambda z, fixed: loss(student(z), fixed), student, reads=(target,)
    )


def trace_adversarial_path(
    attack: InnerAttack,
    x: Tensor,
    loss: Callable[..., Tensor],
    *modules: nn.Module,
    start: Start | Tensor | None = None,
    rng: torch.Generator | None = None,
    sign: int = +1,
    dtype: torch.dtype | None = None,
    ascents: AscentGraphs | None = None,
    reads: tuple[Tensor, ...] | None = None,
) -> list[Tensor]:
    """The images (B,C,H,W) after each step of an attack around x: one path for each image.

    Args:
        attack: its radius, steps and BatchNorm mode; its start as well where none is given.
        x: centres of the ball, (B,C,H,W) in [0,1].
        loss: maps z (B,C,H,W), and what it reads, to (B,).
        modules: frozen during the attack; the first, the student, in the attack's BatchNorm mode.
        start: another start than the attack's, or a first iterate (B,C,H,W).
        rng: draws the start's noise; not needed for a clean or given start.
        sign: +1 raises the loss (an untargeted path), -1 lowers it (a targeted one).
        dtype: of the loss's autocast; None runs the loss without autocast.
        ascents: captures and repeats the path; None runs it eagerly.
        reads: as in `make_adversarial_examples`.
    """
    settings = PathSettings(attack.ball, attack.steps, attack.step, sign, dtype)
    with freeze_for_attack(*modules, bn=attack.attack_bn):
        chosen = attack.start if start is None else start
        first = make_first_iterate(x, attack.ball, chosen, rng).detach()
        return trace_path(settings, x, loss, modules, first, ascents, reads, keeps_all=True)


@dataclass(frozen=True)
class CleanForward:
    """Whether BatchNorm sees the clean images at a step whose loss does not read S(x).

    Released codes compute S(x) in train mode and then weigh its loss by 0, so that the running
    statistics take in clean batches beside the adversarial ones.

    Attributes:
        clean_forward: whether the student also sees the clean images, for BatchNorm's running
            statistics, where no term reads its output on them.
    """

    clean_forward: bool = True


def declare_clean_forward(default: bool = True) -> Any:
    """The dataclass field ``clean`` of an objective: its option is that of `CleanForward`.

    Args:
        default: whether the method's released code does it; left out of the key while it holds.
    """
    metadata = {"fixed": (), "neutral_options": ("clean_forward",)}
    return field(default=CleanForward(default), metadata=metadata)


def show_clean_images(clean: CleanForward, student: nn.Module, x: Tensor) -> None:
    """Runs the student on images x (B,C,H,W) without a gradient, if the setting says so."""
    if clean.clean_forward:
        with torch.no_grad():
            student(x)


class RobustObjective(Protocol):
    """The fields that a data-free objective with a robust form has.

    Every such objective uses RSLAD's inner attack (Zi et al., ICCV 2021), with its start and
    BatchNorm mode fixed.
    """

    @property
    def attack(self) -> Literal["none", "rslad"]:
        """Whether it trains on x* too."""

    @property
    def alpha(self) -> float:
        """Weight of x*'s term."""

    @property
    def inner_attack(self) -> InnerAttack:
        """How x* is made."""


def iterate_training_views(
    objective: RobustObjective,
    student: nn.Module,
    batch: Batch,
    attack_loss: Callable[..., Tensor],
    reads: tuple[Tensor, ...] | None = None,
) -> Iterator[tuple[str, float, Tensor]]:
    """The outputs to train on: each the name and weight of a term, and its logits (B,K).

    ``attack: none`` yields S(x) alone. ``attack: rslad`` yields S(x*) with weight alpha and S(x)
    with 1 - alpha, where x* raises ``attack_loss``, a loss (B,) of the student's logits and of what
    it reads; ``reads`` is as in `make_adversarial_examples`.
    """
    if objective.attack == "none":
        yield "kd", 1.0, student(batch.x)
        return
    x_adv = make_adversarial_examples(
        objective.inner_attack,
        batch,
        lambda z, *given: attack_loss(student(z), *given),
        student,
        reads=reads,
    )
    yield "kd_adv", objective.alpha, student(x_adv)
    yield "kd", 1 - objective.alpha, student(batch.x)
