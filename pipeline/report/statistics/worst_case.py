"""The worst case over attacks: an image counts as correct only if every attack leaves it so."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_points import is_at, is_shifted
from pipeline.report.outcomes import CLEAN_POINT, DEFAULT_EPS, ModelGroup, Outcome, align_outcomes
from pipeline.report.statistics.intervals import (
    ConfidenceInterval,
    student_t_interval,
    wilson_interval,
)

REVISION = 2


def take_worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The least correctness of each image over several outcomes, on the images of all of them."""
    worst = outcomes[0]
    for other in outcomes[1:]:
        one, two = align_outcomes(worst, other)
        worst = Outcome(one.index, np.minimum(one.correctness, two.correctness))
    return worst


def list_worst_case_points(
    points: Iterable[AttackPoint], eps: float = DEFAULT_EPS
) -> list[AttackPoint]:
    """The points of the worst case at a radius: clean images, and every attack at this radius.

    Transfer attacks and images made elsewhere count; attacks on shifted images, and those that
    measure another norm's radius, do not.
    """
    other_norms = ("cw_l2", "jsma", "boundary_risk")
    return [
        p
        for p in points
        if p == CLEAN_POINT or (is_at(p, eps) and not is_shifted(p) and p.attack not in other_norms)
    ]


def find_worst_case(
    outcomes: Mapping[AttackPoint, Outcome], eps: float = DEFAULT_EPS
) -> Outcome | None:
    """One model's worst case at a radius, on the images that all attacks saw; None without any."""
    points = list_worst_case_points(outcomes, eps)
    if not any(p != CLEAN_POINT for p in points):
        return None
    return take_worst([outcomes[p] for p in points])


def estimate_worst_case(
    group: ModelGroup, eps: float = DEFAULT_EPS
) -> tuple[ConfidenceInterval, int] | None:
    """A model's worst-case accuracy with its interval, and the number of images; None if missing.

    The attacks are those that every seed ran.
    """
    found = [
        find_worst_case({p: o for p, o in outcomes.items() if p in group.common_points}, eps)
        for outcomes in group.outcomes
    ]
    known = [outcome for outcome in found if outcome is not None]
    if not known or len(known) < len(found):
        return None
    n = min(len(outcome.index) for outcome in known)
    if len(known) > 1:
        return student_t_interval([outcome.accuracy for outcome in known]), n
    return wilson_interval(known[0].accuracy, n), n


@dataclass(frozen=True)
class AutoAttackGap:
    """How far other attacks together fall below AutoAttack, on the images that all of them saw.

    Attributes:
        autoattack: accuracy under AutoAttack, in [0,1].
        others: accuracy in the worst case over all other attacks, in [0,1].
        together: accuracy in the worst case over AutoAttack and the others.
        images: number of images.
        attacks: number of other attacks.
    """

    autoattack: float
    others: float
    together: float
    images: int
    attacks: int

    @property
    def gap(self) -> float:
        """How much of AutoAttack's accuracy the others take away, in [0,1]."""
        return self.autoattack - self.together


def measure_autoattack_gap(
    outcomes: Mapping[AttackPoint, Outcome], eps: float = DEFAULT_EPS
) -> AutoAttackGap | None:
    """One model's gap at a radius; None without AutoAttack or without another attack."""
    points = [p for p in list_worst_case_points(outcomes, eps) if p != CLEAN_POINT]
    own = [p for p in points if p.attack == "autoattack" and p.surrogate is None]
    others = [p for p in points if p not in own]
    if not own or not others:
        return None
    standard, worst = align_outcomes(outcomes[own[0]], take_worst([outcomes[p] for p in others]))
    if not len(standard.index):
        return None
    return AutoAttackGap(
        autoattack=standard.accuracy,
        others=worst.accuracy,
        together=take_worst([standard, worst]).accuracy,
        images=len(standard.index),
        attacks=len(others),
    )
