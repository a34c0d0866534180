"""Draw the README's table of the demo as a picture: `python docs/draw_demo.py`."""

import re
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "demo.svg"
COLUMNS = {"clean": 2, "PGD-20": 3, "AutoAttack (100 images)": 4}  # attack -> column of the table
COLOURS = ("#0072b2", "#e69f00", "#d55e00")  # told apart by colour-blind readers too
CELL = re.compile(r"([\d.]+) \[(\d+), (\d+)\]")
BAR_WIDTH = 0.27


def read_students() -> dict[str, list[str]]:
    """The table's rows of students: cells by name."""
    lines = (ROOT / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in rows if len(row) > 2 and row[1] == "student"}


def draw(students: dict[str, list[str]]) -> None:
    """Write the picture: a bar for each student and attack, with its 95 % interval."""
    plt.rcParams |= {"svg.hashsalt": "retort", "svg.fonttype": "none"}
    figure, axes = plt.subplots(figsize=(7, 2.6), layout="constrained")
    for place, (attack, column) in enumerate(COLUMNS.items()):
        found = [CELL.match(row[column]).groups() for row in students.values()]
        value, low, high = (list(map(float, numbers)) for numbers in zip(*found, strict=True))
        at = [i + (place - 1) * BAR_WIDTH for i in range(len(value))]
        below = [max(v - a, 0) for v, a in zip(value, low, strict=True)]
        above = [max(b - v, 0) for v, b in zip(value, high, strict=True)]
        bars = {"label": attack, "color": COLOURS[place], "yerr": [below, above]}
        axes.bar(at, value, BAR_WIDTH, ecolor="#444444", **bars)
    axes.set_xticks(range(len(students)), students)
    axes.set_ylabel("accuracy in percent")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(PICTURE, metadata={"Date": None})


if __name__ == "__main__":
    draw(read_students())
