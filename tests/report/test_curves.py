"""Curves of accuracy over the radius: a line is broken at a radius that was not measured."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from pipeline.report.figures import plot_accuracy_curve
from pipeline.report.page.accuracy_charts import make_curve
from pipeline.report.paper_figures.radius import RadiusCurve, list_points
from pipeline.report.statistics.intervals import ConfidenceInterval
from tests.helpers.points import CLEAN, pgd
from tests.report.test_tables import group, of

RADII = [4 / 255, 8 / 255]
ATTACK = pgd(20, 0.0)


def of_two_radii():
    """70 of 100 images right without attack, 20 at 8/255; nothing at 4/255."""
    return group("natural", {CLEAN: of(100, 70), pgd(20, RADII[1]): of(100, 20)}, kind="teacher")


def test_the_pages_line_has_a_gap():
    curve = make_curve(of_two_radii(), ATTACK, RADII)
    assert curve["x"] == [0, 4, 8] and curve["y"] == [70, None, 20]
    assert [n for *_, n in curve["customdata"]] == [100, 0, 100]


def test_the_figures_line_has_a_gap():
    axes = Figure().subplots()
    plot_accuracy_curve(axes, of_two_radii(), ATTACK, RADII, ("black", "--"))
    (line,) = axes.get_lines()
    assert line.get_xdata() == pytest.approx([0, 4, 8])
    np.testing.assert_allclose(line.get_ydata(), [70, np.nan, 20])


def test_the_papers_line_has_a_gap():
    found = {0.0: ConfidenceInterval(0.7, 0.6, 0.8), RADII[1]: ConfidenceInterval(0.2, -0.1, 0.3)}
    points = list_points(RadiusCurve(of_two_radii(), found, 100), RADII)
    nan = np.nan
    np.testing.assert_allclose(points, [[0, 4, 8], [60, nan, 0], [80, nan, 30], [70, nan, 20]])
