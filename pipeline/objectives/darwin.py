"""Untargeted and targeted intermediate adversarial samples (DARWIN: Dong et al., CVPR 2025)."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms, get_clean_teacher_logits
from pipeline.core.collectives import all_gather, take_own_rows
from pipeline.core.inner_attack import (
    InnerAttack,
    declare_attack_options,
    trace_adversarial_path,
)
from pipeline.core.losses import cross_entropy, kl_divergence, triplet_loss, upcast_logits
from pipeline.core.pairing import pair_different_labels
from pipeline.core.pgd import iterate_shared_pgd, make_first_iterate
from pipeline.models.auxiliary_batchnorm import AuxiliaryBatchNorm

REVISION = 2
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pairing",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
    "pipeline.models.auxiliary_batchnorm",
)


@dataclass(frozen=True)
class Supervision:
    """What guides a step: T(x) (B,K), the classes (B,) of pairs and eq. 5, and the attacks' loss.

    That loss (B,) is ``attack_loss(logits, attack_target)``. ``draw_pairs`` maps the classes (N,)
    and T's probabilities (N,K) of the whole batch to each row's partner (N,) and whether the two
    are apart (N,), with draws from a generator.
    """

    teacher_logits: Tensor
    classes: Tensor
    attack_target: Tensor
    attack_loss: Callable[[Tensor, Tensor], Tensor]
    draw_pairs: Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


class DarwinObjective(Protocol):
    """What DARWIN's objectives have: their hyper-parameters, and the targeted branch."""

    inner_attack: InnerAttack
    beta: float
    gamma: float
    margin: float
    lambda_iakd: float
    lambda_dbkd: float
    iakd: bool
    dbkd: bool
    weighting: Literal["mixed", "uniform"]
    target_source: Literal["pair", "own"]
    auxiliary: AuxiliaryBatchNorm | None  # made by prepare, for DBKD alone


def check_hyperparameters(objective: DarwinObjective) -> None:
    """Raise ValueError for hyper-parameters that cannot be meant."""
    if objective.inner_attack.steps < 1:
        raise ValueError("steps: 0 steps make no intermediate sample; give at least 1")
    if not 0 <= objective.gamma <= 1:
        raise ValueError(f"gamma: {objective.gamma:g} is no share; give a number in [0,1]")


def compute_step_weight(
    objective: DarwinObjective, i: int, p_teacher: Tensor, p_student: Tensor, y: Tensor
) -> Tensor:
    """w (B,) in [0,1] of step i, detached (eq. 5), from both models' probabilities (B,K)."""
    if objective.weighting == "uniform":
        return torch.ones_like(p_student[:, 0])
    gap = (p_teacher - p_student.detach()).gather(1, y[:, None]).squeeze(1).abs()
    progress = (1 - objective.gamma) * i / objective.inner_attack.steps
    return progress + objective.gamma * gap / all_gather(gap).max().clamp_min(1e-8)


def generate_iterates(
    objective: DarwinObjective,
    batch: Batch,
    network: Callable[[Tensor], Tensor],
    attacked_modules: Sequence[nn.Module],
    attack_loss: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    goal: Tensor,
    sign: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Each sample z (B,C,H,W) that is trained on, and the student's logits there (B,K).

    The attack around x has the loss ``attack_loss(logits, goal)``.
    """
    attack, trains_intermediate = objective.inner_attack, objective.iakd or objective.dbkd
    start = make_first_iterate(x, attack.ball, attack.start, batch.rng)
    if trains_intermediate and attack.attack_bn == "train":
        return iterate_shared_pgd(
            x,
            network,
            lambda logits: attack_loss(logits, goal),
            attack.ball,
            steps=attack.steps,
            step_size=attack.step,
            start=start,
            sign=sign,
        )
    path = trace_adversarial_path(
        attack,
        x,
        lambda z, goal: attack_loss(network(z), goal),
        *attacked_modules,
        start=start,
        sign=sign,
        dtype=batch.attack_dtype,
        ascents=batch.ascents,
        reads=(goal,),
    )
    return ((z, network(z)) for z in path[0 if trains_intermediate else -1 :])


def compute_darwin_terms(
    objective: DarwinObjective, roles: Roles, batch: Batch, supervision: Supervision
) -> Iterator[Terms]:
    """KL on the clean images, then one dictionary for each pair of intermediate samples.

    Raises:
        ValueError: DBKD lacks its auxiliary BatchNorms, because ``prepare`` has not run.
    """
    student, m, attack = roles.student, objective.margin, objective.inner_attack
    p = upcast_logits(supervision.teacher_logits).softmax(1)
    loss, target = supervision.attack_loss, supervision.attack_target
    ascent = generate_iterates(objective, batch, student, [student], loss, batch.x, target, +1)
    if objective.dbkd:
        pair = gather_pairs(objective, batch, supervision, p)
        if (auxiliary := objective.auxiliary) is None:
            raise ValueError("auxiliary: DBKD has no BatchNorms of its own; call prepare() first")
        branch = partial(auxiliary, student)
        networks = [student, auxiliary]
        descent = generate_iterates(objective, batch, branch, networks, loss, pair.x, pair.goal, -1)
    yield {"kd": kl_divergence(student(batch.x), supervision.teacher_logits)}
    for i in range(1 if objective.iakd or objective.dbkd else attack.steps, attack.steps + 1):
        z, logits = next(ascent)
        q = upcast_logits(logits).softmax(1)
        w = compute_step_weight(objective, i, p, q, supervision.classes)
        terms = compute_teacher_term(objective, i, w, logits, z, roles.teacher)
        if objective.dbkd:
            r = upcast_logits(next(descent)[1]).softmax(1)
            w_pair = compute_step_weight(objective, i, pair.p, r, pair.y)
            separation = w * triplet_loss(p, q, r, m) + w_pair * triplet_loss(pair.p, r, q, m)
            terms["dbkd"] = objective.lambda_dbkd * pair.is_apart * separation
        yield terms


@dataclass(frozen=True)
class Pair:
    """Each sample's partner: image, teacher probabilities, class, goal, and whether it differs."""

    x: Tensor
    p: Tensor
    y: Tensor
    goal: Tensor
    is_apart: Tensor


def draw_label_pairs(classes: Tensor, p: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
    """Partners of another class, whatever the teacher's probabilities p (N,K)."""
    return pair_different_labels(classes, rng)


def gather_pairs(
    objective: DarwinObjective, batch: Batch, supervision: Supervision, p: Tensor
) -> Pair:
    """The partners of this rank's samples, drawn from the whole batch."""
    y_all, goals = all_gather(supervision.classes), all_gather(supervision.attack_target)
    p_all = all_gather(p)
    partner, is_apart = map(take_own_rows, supervision.draw_pairs(y_all, p_all, batch.rng))
    x, p = all_gather(batch.x)[partner], p_all[partner]
    goal = supervision.attack_target if objective.target_source == "pair" else goals[partner]
    return Pair(x, p, y_all[partner], goal, is_apart)


def compute_teacher_term(
    objective: DarwinObjective, i: int, w: Tensor, logits: Tensor, z: Tensor, teacher: nn.Module
) -> Terms:
    """The teacher's term at step i: ARKD's at the last one, IAKD's before."""
    last = i == objective.inner_attack.steps
    if not last and not objective.iakd:
        return {}
    with torch.no_grad():
        target = teacher(z)
    gap = kl_divergence(logits, target)
    if not last:
        return {"iakd": objective.lambda_iakd * w * gap}
    return {"kd_adv": objective.beta * gap}


@dataclass(eq=False)
class Objective(nn.Module):
    """ARKD + lambda_iakd IAKD + lambda_dbkd DBKD (eqs. 5-7, Algorithm 1); labels in attacks only.

    x^_i climbs CE(S, y) from x + 0.001 N(0, I); x^'_i descends CE(S, y) from x' + 0.001 N(0, I), x'
    an image of another class, and uses BatchNorms of its own. ARKD = KL(T(x) || S(x)) + beta
    KL(T(x^_n) || S(x^_n)); IAKD = sum_{i<n} w_i KL(T(x^_i) || S(x^_i)); DBKD pulls p_S(x^_i) to
    p_T(x) and p_S(x^'_i) to p_T(x'), and the two apart. One step of n=10 costs 103 F_S + 11 F_T.

    Attributes:
        start: where both paths start, the untargeted one around x, the targeted one around x'.
        attack_bn: "train" attacks in train mode and updates from the attack's own forwards: 85 F_S.
        beta: weight of the teacher's term at the last sample.
        gamma: share of the confidence gap in the weight of a step; the step's place has the rest.
        margin: margin of the triplet loss.
        lambda_iakd: weight of the teacher's terms at intermediate samples.
        lambda_dbkd: weight of the triplet loss.
        iakd: whether the teacher's terms at intermediate samples are there.
        dbkd: whether the triplet loss and the targeted path are there.
        weighting: how steps are weighed: by place and gap, or all by 1 ("uniform").
        target_source: x' descends to the class of x ("pair") or, as Algorithm 1 has it, its own.
    """

    inner_attack: InnerAttack = declare_attack_options()
    beta: float = 4.0
    gamma: float = 0.5
    margin: float = 0.1
    lambda_iakd: float = 1.0
    lambda_dbkd: float = 0.5
    iakd: bool = True
    dbkd: bool = True
    weighting: Literal["mixed", "uniform"] = "mixed"
    target_source: Literal["pair", "own"] = "pair"
    needs_whole_batch: ClassVar[str] = "eq. 5's maximum and the pairs are those of the batch"

    def __post_init__(self) -> None:
        super().__init__()
        self.register_module("auxiliary", None)
        check_hyperparameters(self)

    def prepare(self, roles: Roles, batch: Batch) -> None:
        """Creates the auxiliary BatchNorms; ``fit`` calls this before it builds the optimiser."""
        self.auxiliary = AuxiliaryBatchNorm(roles.student) if self.dbkd else None

    def needs(self) -> tuple[str, ...]:
        """Labels, and a live teacher: it sees every untargeted sample."""
        return ("label", "teacher")

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """A dictionary with "kd"; then one per step with "iakd" or "kd_adv", and with "dbkd"."""
        target, y = get_clean_teacher_logits(roles, batch), batch.labels
        likeliest = y if y.ndim == 1 else y.argmax(1)
        return compute_darwin_terms(
            self, roles, batch, Supervision(target, likeliest, y, cross_entropy, draw_label_pairs)
        )
