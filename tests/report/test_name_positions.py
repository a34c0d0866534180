"""Where the names of markers stand in a chart."""

import pytest

from pipeline.report.page.name_positions import ABOVE, BELOW, LEFT, RIGHT, place_names

FAR = (0.0, 0.0)  # a corner that gives both axes their ranges of 100


@pytest.mark.parametrize(
    ("near", "expected"),
    [
        ([(50, 50)], [ABOVE]),
        ([(50, 50), (54, 51)], [LEFT, RIGHT]),
        ([(54, 51), (50, 50)], [RIGHT, LEFT]),
        ([(50, 50), (50, 49)], [ABOVE, BELOW]),
        ([(50, 49), (50, 50)], [BELOW, ABOVE]),
        ([(50, 50), (51, 50), (52, 50)], [LEFT, ABOVE, RIGHT]),
        ([(50, 50), (51, 50), (52, 50), (53, 50)], [LEFT, ABOVE, BELOW, RIGHT]),
        ([(50, 50), (51, 53), (50, 56), (51, 59)], [BELOW, RIGHT, LEFT, ABOVE]),
        ([(50, 50), (62, 50)], [ABOVE, ABOVE]),  # near in one axis alone
        ([(50, 50), (57, 50), (64, 50)], [LEFT, ABOVE, RIGHT]),  # the outer two through the middle
        ([(50, 50), (50, 50)], [LEFT, RIGHT]),
    ],
)
def test_neighbours_have_their_names_on_outer_sides(near, expected):
    points = [FAR, (100.0, 100.0), *near]
    assert place_names(*zip(*points, strict=True)) == [ABOVE, ABOVE, *expected]


def test_models_that_agree_in_one_axis_or_all_have_names():
    assert place_names([], []) == []
    assert place_names([1.0], [2.0]) == [ABOVE]
    assert place_names([1.0, 2.0], [0.0, 0.0]) == [ABOVE, ABOVE]
