"""The worst case over attacks: an image counts as correct only if every attack leaves it so."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.attack_protocol import AttackPoint, find_norm
from pipeline.report.attack_labels import PIXEL_TOLERANCE, format_radius
from pipeline.report.attack_points import is_shifted, rank_by_strength
from pipeline.report.outcomes import (
    CLEAN_POINT,
    DEFAULT_EPS,
    ROUNDING_DIGITS,
    ModelGroup,
    Outcome,
    align_outcomes,
)
from pipeline.report.statistics.intervals import (
    ConfidenceInterval,
    student_t_interval,
    wilson_interval,
)

REVISION = 3

OTHER_NORMS = ("cw_l2", "jsma", "boundary_risk")  # attacks that measure a radius of their own


@dataclass(frozen=True)
class Radius:
    """The radius of a threat model.

    Attributes:
        eps: in pixels of [0,1].
        norm: as `find_norm` has it; empty for L-infinity.
    """

    eps: float = round(DEFAULT_EPS, ROUNDING_DIGITS)
    norm: str = ""

    def __str__(self) -> str:
        return f"{self.eps:.4g} in {self.norm}" if self.norm else format_radius(self.eps)

    def is_of(self, point: AttackPoint) -> bool:
        """Whether an attack on images without shift has this radius."""
        is_near = abs(point.eps - self.eps) < PIXEL_TOLERANCE
        return is_near and find_norm(point) == self.norm and not is_shifted(point)


def list_radii(points: Iterable[AttackPoint]) -> set[Radius]:
    """The radii of all attacks on images without shift."""
    return {
        Radius(round(p.eps, ROUNDING_DIGITS), find_norm(p))
        for p in points
        if p.eps > 0 and not is_shifted(p)
    }


def choose_radius(radii: Collection[Radius]) -> Radius:
    """The radius 8/255 in L-infinity, or the largest where there is no 8/255.

    Those of another norm count where none is in L-infinity.
    """
    if not radii or Radius() in radii:
        return Radius()
    norm = min(radius.norm for radius in radii)
    return max((r for r in radii if r.norm == norm), key=lambda radius: radius.eps)


def find_shared_radius(groups: Sequence[ModelGroup]) -> Radius:
    """A radius that all attacked students met, or one of all models where they share none."""
    met = [list_radii(g.common_points) for g in groups if g.kind == "student"]
    attacked = [radii for radii in met if radii]
    shared = set.intersection(*attacked) if attacked else set()
    return choose_radius(shared or set().union(*(list_radii(g.common_points) for g in groups)))


def take_worst(outcomes: Sequence[Outcome]) -> Outcome:
    """The least correctness of each image over several outcomes, on the images of all of them."""
    worst = outcomes[0]
    for other in outcomes[1:]:
        one, two = align_outcomes(worst, other)
        worst = Outcome(one.index, np.minimum(one.correctness, two.correctness))
    return worst


def list_worst_case_points(points: Iterable[AttackPoint], radius: Radius) -> list[AttackPoint]:
    """The points of the worst case at a radius: clean images, and every attack at this radius.

    Transfer attacks and images made elsewhere count; attacks on shifted images, and those that
    measure a radius of their own, do not.
    """
    return [
        p for p in points if p == CLEAN_POINT or (radius.is_of(p) and p.attack not in OTHER_NORMS)
    ]


def list_shared_points(groups: Sequence[ModelGroup], radius: Radius) -> list[AttackPoint]:
    """The points of the worst case that every model met in each of its seeds."""
    shared = set.intersection(*(group.common_points for group in groups)) if groups else set()
    return sorted(list_worst_case_points(shared, radius), key=rank_by_strength)


def find_worst_case(outcomes: Mapping[AttackPoint, Outcome], radius: Radius) -> Outcome | None:
    """One model's worst case at a radius, on the images that all attacks saw; None without any."""
    points = list_worst_case_points(outcomes, radius)
    if not any(p != CLEAN_POINT for p in points):
        return None
    return take_worst([outcomes[p] for p in points])


def estimate_worst_case(group: ModelGroup, radius: Radius) -> tuple[ConfidenceInterval, int] | None:
    """A model's worst-case accuracy with its interval, and the number of images; None if missing.

    The attacks are those that every seed ran.
    """
    found = [
        find_worst_case({p: o for p, o in outcomes.items() if p in group.common_points}, radius)
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
    outcomes: Mapping[AttackPoint, Outcome], radius: Radius
) -> AutoAttackGap | None:
    """One model's gap at a radius; None without AutoAttack or without another attack."""
    points = [p for p in list_worst_case_points(outcomes, radius) if p != CLEAN_POINT]
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
