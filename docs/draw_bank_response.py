"""Draw how banks and their students respond to the radius: `python docs/draw_bank_response.py`.

The numbers are those of the two tables in `benchmarks/results/dad-gain.md`.
"""

import hashlib
import re
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt  # noqa: E402

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "images" / "bank-response.svg"
PAGE = ROOT / "benchmarks" / "results" / "dad-gain.md"
RADII = {0.1: "eps-0.1", 0.5: "eps-0.5", 1: "eps-1", 2: "eps-2", 4: "eps-4"}
RATES = {  # what is drawn of a bank: its column in the first table, mark and colour
    "accepted by the teacher": (4, "o-", "#0072b2"),
    "tokens flipped beyond re-quantisation": (3, "s-", "#e69f00"),
    "teacher's confidence falls by": (6, "D-", "#009e73"),
}
MEASURES = {"PGD-20, 1/255": 3, "corruptions": 4}  # columns of the second table
FILTERS = {  # students by what their banks do with rejected samples: eps and name, mark, colour
    "dropped": (dict(RADII), "o", "#0072b2"),
    "kept": ({1: "unfiltered", 4: "unfiltered-4"}, "s", "#e69f00"),
    "replaced by Q(x)": ({1: "replaced", 4: "replaced-4"}, "^", "#009e73"),
}
SHIFT = 0.15  # between marks of one radius
DIFFERENCE = re.compile(r"\(([+-][\d.]+) ±([\d.]+)\)")


def read_tables() -> list[dict[str, list[str]]]:
    """The rows of the page's two tables: cells by name."""
    tables = []
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] == "bank":
            tables.append({})
        elif line.startswith("| "):
            tables[-1][cells[0]] = cells
    return tables


def draw_banks(axes: plt.Axes, banks: dict[str, list[str]]) -> None:
    """A line for each rate, over the radius."""
    for label, (column, mark, colour) in RATES.items():
        values = [float(banks[name][column]) for name in RADII.values()]
        axes.plot(values, mark, color=colour, label=label, markersize=5)
    axes.set_ylabel("percent, points")
    axes.set_ylim(0, 75)  # room for the legend
    axes.set_title("the bank", loc="left", fontsize="medium")


def draw_students(axes: plt.Axes, students: dict[str, list[str]], measure: str) -> None:
    """The difference from the student of Q(x) in one measure, with its interval."""
    places = {radius: place for place, radius in enumerate(RADII)}
    for number, (label, (names, marker, colour)) in enumerate(FILTERS.items()):
        cells = [students[name][MEASURES[measure]] for name in names.values()]
        found = [DIFFERENCE.search(cell).groups() for cell in cells]
        axes.errorbar(
            [places[radius] + number * SHIFT for radius in names],
            [float(value) for value, _ in found],
            yerr=[float(half) for _, half in found],
            fmt=marker,
            color=colour,
            markersize=5,
            label=label,
        )
    axes.axhline(0, color="#888888", linewidth=0.8)
    axes.set_ylabel("points from Q(x) alone")
    axes.set_title(f"students, {measure}", loc="left", fontsize="medium")


def describe_numbers(*tables: dict[str, list[str]]) -> str:
    """A checksum of the tables, kept in the picture: it tells whether the picture is older."""
    text = "\n".join(" ".join(cells) for table in tables for cells in table.values())
    return f"sha256 of the tables: {hashlib.sha256(text.encode()).hexdigest()}"


def draw(banks: dict[str, list[str]], students: dict[str, list[str]]) -> None:
    """Write the picture: banks on the left, then their students."""
    plt.rcParams |= {"svg.hashsalt": "retort", "svg.fonttype": "none"}
    figure, (first, *others) = plt.subplots(1, 3, figsize=(10, 3.8), layout="constrained")
    draw_banks(first, banks)
    for axes, measure in zip(others, MEASURES, strict=True):
        draw_students(axes, students, measure)
    first.legend(frameon=False, fontsize="small")
    others[1].sharey(others[0])
    others[0].autoscale()
    others[1].legend(
        frameon=False, fontsize="small", loc="lower left", title="rejected samples are"
    )
    for axes in (first, *others):
        axes.set_xticks(range(len(RADII)), [f"{radius:g}" for radius in RADII])
        axes.set_xlabel("eps, L2 in pixels of [0,1]")
        axes.spines[["top", "right"]].set_visible(False)
    about = {"Date": None, "Description": describe_numbers(banks, students)}
    figure.savefig(PICTURE, metadata=about)


if __name__ == "__main__":
    draw(*read_tables())
