"""Where the names of markers stand in a chart, so that names of neighbours do not meet."""

from collections.abc import Sequence

import numpy as np
from scipy.sparse.csgraph import connected_components

REVISION = 1

NEAR = (0.09, 0.08)  # of the axes' ranges: names of markers that are nearer in both would meet
ABOVE, BELOW, LEFT, RIGHT = "top center", "bottom center", "middle left", "middle right"


def place_names(x: Sequence[float], y: Sequence[float]) -> list[str]:
    """Plotly's position of the name of each marker.

    A marker by itself has its name above it. Of markers that stand side by side the outer two have
    their names on the outer sides, of markers on top of each other above and below.
    """
    if not len(x):
        return []
    points = np.array([x, y], dtype=float)  # (2, markers)
    ranges = np.ptp(points, axis=1, keepdims=True)
    places = points / np.where(ranges > 0, ranges, 1)
    distances = np.abs(places[:, :, None] - places[:, None, :])  # (2, markers, markers)
    near = (distances < np.array(NEAR)[:, None, None]).all(axis=0)
    _, clusters = connected_components(near, directed=False)
    positions = [ABOVE] * len(x)
    for cluster in range(clusters.max() + 1):
        members = np.flatnonzero(clusters == cluster)
        if len(members) > 1:
            for member, position in zip(*arrange_cluster(members, places), strict=True):
                positions[member] = position
    return positions


def arrange_cluster(members: np.ndarray, places: np.ndarray) -> tuple[list[int], list[str]]:
    """Two or more neighbours in the order of their longer side, and where their names stand."""
    width, height = np.ptp(places[:, members], axis=1)
    if width >= height:
        axis, first, last, between = 0, LEFT, RIGHT, (ABOVE, BELOW)
    else:
        axis, first, last, between = 1, BELOW, ABOVE, (RIGHT, LEFT)
    ordered = members[np.argsort(places[axis, members], kind="stable")]
    inner = [between[i % 2] for i in range(len(members) - 2)]
    return ordered.tolist(), [first, *inner, last]
