"""Draw the study of all objectives as a picture: `python docs/draw_objectives.py`.

The numbers are those of `benchmarks/results/data/objectives.json`, in percent.
"""

import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "objectives.svg"
DATA = ROOT / "benchmarks" / "results" / "data" / "objectives.json"
MARKS = {  # colours that colour-blind readers can tell apart, and shapes for all others
    "clean": ("clean", "o", "#e69f00"),
    "pgd": ("PGD-20", "s", "#0072b2"),
    "autoattack": ("AutoAttack, 1,000 images, one seed", "D", "#009e73"),
}


def draw(objectives: dict[str, dict[str, dict[str, float]]]) -> None:
    """Write the picture: one row an objective, the most robust on top."""
    rows = sorted(objectives, key=lambda name: objectives[name]["pgd"]["value"])
    plt.rcParams |= {"svg.hashsalt": "retort", "svg.fonttype": "none"}
    figure, axes = plt.subplots(figsize=(7, 6.2), layout="constrained")
    for measure, (label, marker, colour) in MARKS.items():
        found = [objectives[name][measure] for name in rows]
        axes.errorbar(
            [numbers["value"] for numbers in found],
            range(len(rows)),
            xerr=[
                [numbers["value"] - numbers["low"] for numbers in found],
                [numbers["high"] - numbers["value"] for numbers in found],
            ],
            fmt=marker,
            markersize=5,
            color=colour,
            label=label,
        )
    axes.set_yticks(range(len(rows)), rows)
    axes.set_xlabel("accuracy, percent")
    axes.set_xlim(left=0)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1))
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw(json.loads(DATA.read_text()))
