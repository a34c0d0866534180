"""Untargeted and targeted intermediate adversarial samples (DARWIN: Dong et al., CVPR 2025)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles, Terms, clean_target
from pipeline.core.collectives import gathered, own
from pipeline.core.inner_attack import InnerAttack, attack_options
from pipeline.core.losses import cross_entropy, kl, triplet, widened
from pipeline.core.pairing import differing
from pipeline.core.pgd import ascend, ascend_shared, attacked, begin
from pipeline.core.threat_models import Linf
from pipeline.models.auxiliary_batchnorm import AuxiliaryBatchNorm

REVISION = 1
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
class Aim:
    """T(x) (B,K), classes y (B,) of pairs and eq. 5, and the attacks' loss: inner(logits, goal)."""

    target: Tensor
    y: Tensor
    goal: Tensor
    inner: Callable[[Tensor, Tensor], Tensor]

    def loss(self, goal: Tensor) -> Callable[[Tensor], Tensor]:
        """The attacks' loss as a function of the student's logits."""
        return lambda logits: self.inner(logits, goal)


def check(method) -> None:
    """Raise ValueError for hyper-parameters that cannot be meant."""
    if method.inner_attack.steps < 1:
        raise ValueError("steps: 0 steps make no intermediate sample; give at least 1")
    if not 0 <= method.gamma <= 1:
        raise ValueError(f"gamma: {method.gamma:g} is no share; give a number in [0,1]")


def weight(method, i: int, wanted: Tensor, found: Tensor, y: Tensor) -> Tensor:
    """w (B,) in [0,1] of step i, detached (eq. 5), from teacher's and student's p (B,K) of y."""
    if method.weighting == "uniform":
        return torch.ones_like(found[:, 0])
    gap = (wanted - found.detach()).gather(1, y[:, None]).squeeze(1).abs()
    progress = (1 - method.gamma) * i / method.inner_attack.steps
    return progress + method.gamma * gap / gathered(gap).max().clamp_min(1e-8)


def walk(method, network, modules, loss, x, dtype, start, sign) -> Iterator[tuple[Tensor, Tensor]]:
    """Each sample z (B,C,H,W) that is trained on, and the student's logits there (B,K)."""
    attack, between = method.inner_attack, method.iakd or method.dbkd
    settings = {"steps": attack.steps, "step": attack.step, "start": start, "sign": sign}
    ball = Linf(attack.eps)
    if between and attack.attack_bn == "train":
        return ascend_shared(x, network, loss, ball, **settings)
    path: list[Tensor] = []
    with attacked(*modules, bn=attack.attack_bn):
        ascend(x, lambda z: loss(network(z)), ball, path=path, dtype=dtype, **settings)
    return ((z, network(z)) for z in path[0 if between else -1 :])


def distil(method, roles: Roles, batch: Batch, aim: Aim) -> Iterator[Terms]:
    """KL on the clean images, then one dictionary for each pair of intermediate samples."""
    student, p, m = roles.student, widened(aim.target).softmax(1), method.margin
    attack, dtype = method.inner_attack, batch.attack_dtype
    start = begin(batch.x, Linf(attack.eps), attack.start, batch.rng)
    climb = walk(method, student, [student], aim.loss(aim.goal), batch.x, dtype, start, +1)
    if method.dbkd:
        y_all, goals = gathered(aim.y), gathered(aim.goal)
        partner, apart = map(own, differing(y_all, batch.rng))
        x_pair, p_pair, y_pair = gathered(batch.x)[partner], gathered(p)[partner], y_all[partner]
        goal = aim.goal if method.target_source == "pair" else goals[partner]
        branch, parts = partial(method.auxiliary, student), [student, method.auxiliary]
        descent = walk(method, branch, parts, aim.loss(goal), x_pair, dtype, "clean", -1)
    yield {"kd": kl(student(batch.x), aim.target)}
    for i in range(1 if method.iakd or method.dbkd else attack.steps, attack.steps + 1):
        z, logits = next(climb)
        q = widened(logits).softmax(1)
        w = weight(method, i, p, q, aim.y)
        terms = followed(method, i, w, logits, z, roles.teacher)
        if method.dbkd:
            r = widened(next(descent)[1]).softmax(1)
            w_pair = weight(method, i, p_pair, r, y_pair)
            parted = w * triplet(p, q, r, m) + w_pair * triplet(p_pair, r, q, m)
            terms["dbkd"] = method.lambda_dbkd * apart * parted
        yield terms


def followed(method, i: int, w: Tensor, logits: Tensor, z: Tensor, teacher: nn.Module) -> Terms:
    """The teacher's term at step i: ARKD's at the last one, IAKD's before."""
    last = i == method.inner_attack.steps
    if not last and not method.iakd:
        return {}
    with torch.no_grad():
        target = teacher(z)
    gap = kl(logits, target)
    if not last:
        return {"iakd": method.lambda_iakd * w * gap}
    return {"kd_adv": method.beta * gap}


@dataclass(eq=False)
class Objective(nn.Module):
    """ARKD + lambda_iakd IAKD + lambda_dbkd DBKD (eqs. 5-7, Algorithm 1); labels in attacks only.

    x^_i climbs CE(S, y) from x; x^'_i descends CE(S, y) from an image x' of another class and has
    BatchNorms of its own. ARKD = KL(T(x) || S(x)) + beta KL(T(x^_n) || S(x^_n)); IAKD =
    sum_{i<n} w_i KL(T(x^_i) || S(x^_i)); DBKD draws p_S(x^_i) to p_T(x) and p_S(x^'_i) to
    p_T(x'), apart from each other. One step of n=10 costs 103 F_S + 11 F_T.

    Attributes:
        start: of the untargeted path; the targeted one starts at x' itself.
        gamma: share of the confidence gap in w; weighting "uniform" is w = 1 («no weights»).
        target_source: x' descends to the class of x ("pair") or, as Algorithm 1 has it, its own.
        attack_bn: "train" attacks in train mode and updates by the attack's own forwards: 85 F_S.
    """

    inner_attack: InnerAttack = attack_options()
    beta: float = 4.0
    gamma: float = 0.5
    margin: float = 0.1
    lambda_iakd: float = 1.0
    lambda_dbkd: float = 0.5
    iakd: bool = True
    dbkd: bool = True
    weighting: Literal["mixed", "uniform"] = "mixed"
    target_source: Literal["pair", "own"] = "pair"
    needs_whole_batch: ClassVar[bool] = True  # eq. 5's maximum, and the pairs

    def __post_init__(self):
        super().__init__()
        self.register_module("auxiliary", None)
        check(self)

    def prepare(self, roles: Roles, batch: Batch) -> None:
        """Make the auxiliary BatchNorms, before an optimiser is built."""
        self.auxiliary = AuxiliaryBatchNorm(roles.student) if self.dbkd else None

    def needs(self) -> tuple[str, ...]:
        """Labels, and a live teacher: it sees every untargeted sample."""
        return ("label", "teacher")

    def forward(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        """One dictionary of "kd"; then, a step, one of "iakd" or "kd_adv", and of "dbkd"."""
        target, y = clean_target(roles, batch), batch.y
        likeliest = y if y.ndim == 1 else y.argmax(1)
        return distil(self, roles, batch, Aim(target, likeliest, y, cross_entropy))
