"""Draw the steps' ratios as a picture: `python docs/draw_performance.py`.

The numbers are those of `benchmarks/results/data`, which `make bench` writes.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "performance.svg"
DATA = ROOT / "benchmarks" / "results" / "data"
COLOURS = ("#0072b2", "#e69f00")  # told apart by colour-blind readers too
BARS = {"textbook": "textbook / ours", "floor": "ours / floor"}
BAR_WIDTH = 0.38


def read_steps() -> dict[str, dict[str, dict[str, float]]]:
    """Median, least and greatest of each ratio, by method."""
    return json.loads((DATA / "training-steps.json").read_text())


def draw(steps: dict[str, dict[str, dict[str, float]]]) -> None:
    """Write the picture: two bars for each method, with the least and the greatest ratio."""
    plt.rcParams |= {"svg.hashsalt": "retort", "svg.fonttype": "none"}
    figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
    for place, (ratio, label) in enumerate(BARS.items()):
        found = [step[ratio] for step in steps.values()]
        middle = [numbers["median"] for numbers in found]
        below = [numbers["median"] - numbers["low"] for numbers in found]
        above = [numbers["high"] - numbers["median"] for numbers in found]
        at = [i + (place - 0.5) * BAR_WIDTH for i in range(len(found))]
        bars = {"label": label, "color": COLOURS[place], "yerr": [below, above]}
        axes.bar(at, middle, BAR_WIDTH, ecolor="#444444", **bars)
    axes.axhline(1, color="#444444", linewidth=0.8)
    axes.set_xticks(range(len(steps)), steps)
    axes.set_ylabel("ratio of times")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw(read_steps())
