"""What attack points are, and their order in tables."""

from collections.abc import Iterable
from dataclasses import replace
from functools import cache

from pipeline.core.attack_protocol import POINT_COLUMNS, AttackPoint, find_norm
from pipeline.report.attack_labels import DEFAULT_STEP_SIZE, PIXEL_TOLERANCE


def is_corruption(point: AttackPoint) -> bool:
    """Whether an outcome is of corrupted images under no attack, on the complete test set."""
    plain = point.attack in ("clean", "corruptions") and point.part is None
    return plain and point.corruption is not None


def is_shifted(point: AttackPoint) -> bool:
    """Whether an outcome is of corrupted images or of a part of the test set."""
    return point.corruption is not None or point.part is not None


def is_default_pgd(point: AttackPoint) -> bool:
    """Whether a point is of PGD with default settings but for its steps, on unshifted images."""
    if point.attack != "pgd" or is_shifted(point):
        return False
    usual_step = abs(point.step - DEFAULT_STEP_SIZE) < PIXEL_TOLERANCE
    return usual_step and point.start == "uniform" and point.restarts == 1


def is_at(point: AttackPoint, eps: float) -> bool:
    """Whether a point's radius is this one, in L-infinity."""
    return abs(point.eps - eps) < PIXEL_TOLERANCE and not find_norm(point)


def keep_one_norm(points: Iterable[AttackPoint]) -> list[AttackPoint]:
    """The points whose radius is in L-infinity; without any, those of one other norm."""
    points = list(points)
    first = min(map(find_norm, points), default="")
    return [point for point in points if find_norm(point) == first]


def drop_radius(point: AttackPoint) -> AttackPoint:
    """The point with radius 0, which is the same for all radii of a curve."""
    return replace(point, eps=0.0)


@cache
def rank_by_strength(point: AttackPoint) -> tuple:
    """A sort key: clean, FGSM, PGD by steps, others, AutoAttack; then transferred attacks."""
    rank = 2 if is_default_pgd(point) else 3
    if not is_shifted(point):
        rank = {"clean": 0, "fgsm": 1, "autoattack": 9}.get(point.attack, rank)
    return rank + (10 if point.surrogate else 0), rank_by_columns(drop_radius(point)), point.eps


def rank_by_columns(point: AttackPoint) -> tuple:
    """A sort key of a point's columns, None first."""
    values = (getattr(point, name) for name in POINT_COLUMNS)
    return tuple((False, 0) if value is None else (True, value) for value in values)
