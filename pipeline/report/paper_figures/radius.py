"""Accuracy over the radius of an attack, with clean accuracy on the same images at radius 0."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import format_attack
from pipeline.report.outcomes import CLEAN_POINT, ModelGroup, align_outcomes, find_accuracy_curves
from pipeline.report.paper_figures.canvas import (
    Canvas,
    describe_counts,
    describe_seeds,
    make_line_formats,
)
from pipeline.report.statistics.intervals import (
    ConfidenceInterval,
    student_t_interval,
    wilson_interval,
)

REVISION = 2


@dataclass(frozen=True)
class RadiusCurve:
    """One model's accuracy at each radius in [0,1], and the number of images."""

    group: ModelGroup
    estimates: dict[float, ConfidenceInterval]
    image_count: int


def make_radius_curve(
    group: ModelGroup, attack: AttackPoint, radii: list[float]
) -> RadiusCurve | None:
    """A model's curve under an attack; None if it ran at no radius above 0.

    All radii, 0 included, are taken on the images that every one of them has.
    """
    points = {eps: replace(attack, eps=eps) for eps in radii}
    points = {eps: point for eps, point in points.items() if point in group.common_points}
    if not any(points):
        return None
    if CLEAN_POINT in group.common_points and 0.0 not in points:
        points = {0.0: CLEAN_POINT, **points}
    by_radius: dict[float, list[float]] = {eps: [] for eps in points}
    image_count = 0
    for found in group.outcomes:
        shortest = min((found[point] for point in points.values()), key=lambda o: len(o.index))
        for eps, point in points.items():
            aligned, _ = align_outcomes(found[point], shortest)
            by_radius[eps].append(aligned.accuracy)
            image_count = len(aligned.index)
    estimates = {
        eps: student_t_interval(values)
        if len(values) > 1
        else wilson_interval(values[0], image_count)
        for eps, values in by_radius.items()
    }
    return RadiusCurve(group, estimates, image_count)


def list_points(curve: RadiusCurve, radii: Sequence[float]) -> np.ndarray:
    """Radius in 1/255, low, high and accuracy in percent (4,R); NaN where it was not measured."""
    shown = sorted({*curve.estimates, *radii})
    found = [curve.estimates.get(eps) for eps in shown]
    numbers = [(np.nan,) * 3 if e is None else (e.low, e.high, e.value) for e in found]
    return np.vstack([255 * np.array(shown), 100 * np.array(numbers).clip(0, 1).T])


def draw_autoattack_curves(canvas: Canvas) -> str:
    """Draw AutoAttack accuracy over radii, one line for each model (DARWIN, Fig. 3b)."""
    groups, formats = canvas.study.evaluated_groups, make_line_formats(canvas.study)
    attacks = {
        point: radii
        for point, radii in find_accuracy_curves(groups).items()
        if point.attack == "autoattack"
    }
    if not attacks:
        return ""
    drawn: list[RadiusCurve] = []
    with canvas.open_figure(2.6 + 4.6 * len(attacks), 4.2) as figure:
        panels = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
        for axes, (attack, radii) in zip(panels, attacks.items(), strict=True):
            curves = [make_radius_curve(group, attack, radii) for group in groups]
            for curve in filter(None, curves):
                line_format = formats[curve.group.kind, curve.group.name]
                x, *ends, y = list_points(curve, radii)
                axes.fill_between(x, *ends, color=line_format["color"], alpha=0.1, lw=0)
                axes.plot(x, y, label=curve.group.name, **line_format)
                drawn.append(curve)
            axes.set(title=format_attack(attack), xlabel="eps (1/255)", ylim=(0, None))
        panels[0].set_ylabel("accuracy (%)")
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False
        )
    return (
        "Accuracy under AutoAttack in the L-infinity ball over its radius; at 0 without attack, on "
        "the same images. Shaded: 95 % intervals, over images for one seed, else over seeds. "
        f"{describe_counts([c.image_count for c in drawn])} test images, "
        f"{describe_seeds([c.group for c in drawn])}. Teachers are dashed."
    )
