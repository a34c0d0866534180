"""Discrete adversarial training (Mao et al., NeurIPS 2022), the baseline of DAD's Tables 1 to 7."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from pipeline.core.batch import Batch, Roles, Terms
from pipeline.core.collectives import repeat_for_ranks, take_own_rows
from pipeline.core.inner_attack import (
    InnerAttack,
    PathSettings,
    climb_loss,
    declare_attack_options,
)
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_for_attack, make_first_iterate

REVISION = 1
COMPONENTS = (
    "pipeline.core.batch",
    "pipeline.core.inner_attack",
    "pipeline.core.losses",
    "pipeline.core.pgd",
    "pipeline.core.threat_models",
)


class DiscreteObjective(Protocol):
    """What an objective that makes discrete samples has among its fields."""

    @property
    def inner_attack(self) -> InnerAttack:
        """Radius, steps and BatchNorm mode; the start is given."""

    @property
    def start_probability(self) -> float:
        """Share of samples that start away from Q(x)."""


def make_discrete_adversary(objective: DiscreteObjective, roles: Roles, batch: Batch) -> Tensor:
    """x~_S = Q(Q(x) + delta), (B,C,H,W) in [0,1]: delta climbs the student's cross-entropy.

    The ball is L2 around Q(x). Each sample starts, with the start probability, in a random
    direction of length eps. Q is never differentiated: its gradient is taken for the identity.

    Raises:
        ValueError: there is no Q among the roles.
    """
    attack, discretizer, student = objective.inner_attack, roles.discretizer, roles.student
    if discretizer is None:
        raise ValueError("roles: no discretizer; list it among the objective's needs")
    threat_model = attack.ball
    with torch.no_grad():
        q = discretizer.reconstruct(batch.x)
    drawn = torch.rand(len(repeat_for_ranks(q)), generator=batch.rng, device=q.device)
    noisy = take_own_rows(drawn < objective.start_probability)
    start = torch.where(
        noisy.view(-1, 1, 1, 1), make_first_iterate(q, threat_model, "uniform", batch.rng), q
    )
    with freeze_for_attack(student, bn=attack.attack_bn):
        x_adv = climb_loss(
            PathSettings(threat_model, attack.steps, attack.step, dtype=batch.attack_dtype),
            q,
            lambda z, y: cross_entropy(student(z), y),
            (student,),
            start,
            batch.ascents,
            (batch.labels,),
        )
    with torch.no_grad():
        return discretizer.reconstruct(x_adv)


@dataclass(frozen=True)
class Objective:
    """CE(S(x), y) + CE(S(x~_S), y), x~_S generated at each step against the student.

    Attributes:
        start_probability: chance that a sample starts at a random point of the ball, not at Q(x).
    """

    inner_attack: InnerAttack = declare_attack_options(
        InnerAttack(0.1, 0.1, 1, attack_bn="train", norm="l2"), fixed=("start",)
    )
    start_probability: float = 0.8

    def needs(self) -> tuple[str, ...]:
        """Labels and the discretizer Q."""
        return ("label", "discretizer")

    def __call__(self, roles: Roles, batch: Batch) -> Iterator[Terms]:
        x_adv = make_discrete_adversary(self, roles, batch)
        yield {
            "ce": cross_entropy(roles.student(batch.x), batch.labels),
            "ce_adv": cross_entropy(roles.student(x_adv), batch.labels),
        }
