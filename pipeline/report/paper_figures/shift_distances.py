"""Accuracy against the distance of training images from shifted ones (DAD, Fig. 2)."""

from collections.abc import Sequence

from pipeline.report.attack_labels import format_shift
from pipeline.report.distance_study import DistancePoint
from pipeline.report.paper_figures.canvas import (
    MARKERS,
    Canvas,
    describe_counts,
    describe_seeds,
    make_line_formats,
)

REVISION = 2


def draw_distances(canvas: Canvas) -> str:
    """Draw a point for each student and shift: accuracy against W."""
    settings, study = canvas.spec.wasserstein, canvas.study
    spots = canvas.spots
    if settings is None or not spots:
        return ""
    shifts = list(dict.fromkeys(format_shift(s.shift) for s in spots))
    formats = make_line_formats(study)
    with canvas.open_figure(8.4, 4.4) as figure:
        axes = figure.subplots()
        for spot in spots:
            colour = formats["student", spot.group.name]["color"]
            marker = MARKERS[shifts.index(format_shift(spot.shift)) % len(MARKERS)]
            axes.plot(spot.distance, 100 * spot.accuracy, marker, color=colour, ms=6, alpha=0.85)
        add_legend_entries(axes, spots, shifts, formats)
        axes.set(xlabel="Wasserstein distance W of training images", ylabel="accuracy (%)")
        figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    counts = [spot.image_count for spot in spots]
    groups = list({spot.group.name: spot.group for spot in spots}.values())
    return (
        "Accuracy on shifted test images against the 2-Wasserstein distance between a student's "
        "training images (with its bank's samples) and the shifted ones, channels as independent "
        f"Gaussians, by the BatchNorm inputs of {settings.network}: n = {settings.images:,} images "
        f"of each at most. Accuracy on {describe_counts(counts)} test images, mean over seeds, "
        f"{describe_seeds(groups)}. Colour: student; marker: shift."
    )


def add_legend_entries(
    axes, spots: Sequence[DistancePoint], shifts: list[str], formats: dict
) -> None:
    """Add an entry for each student's colour, and one for each shift's marker."""
    for name in dict.fromkeys(spot.group.name for spot in spots):
        axes.plot([], [], lw=5, color=formats["student", name]["color"], label=name)
    for place, shift in enumerate(shifts):
        marker = MARKERS[place % len(MARKERS)]
        axes.plot([], [], marker, color="#555555", label=shift)
