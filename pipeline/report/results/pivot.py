"""Results averaged over seeds: groups of rows down, conditions across, in several formats."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from tabulate import tabulate

from pipeline.errors import RetortError
from pipeline.report.attack_labels import format_radius
from pipeline.report.results.rows import list_columns
from pipeline.report.statistics.intervals import wilson_interval

DEFAULT_BY = ("model", "role")
MEASURED = ("n", "correct", "accuracy", "low", "high", "evaluation", "evaluation_key")
NO_SPREAD = "–"


@dataclass(frozen=True)
class Cell:
    """The accuracies of a group of models under one condition.

    Attributes:
        mean: mean over sections of their means over seeds, in [0,1].
        sd: standard deviation over seeds, pooled over sections; None where all have one seed.
        sections: number of sections of the configuration.
        seeds: largest number of seeds of a section.
        n: number of test images; the smallest where they differ.
    """

    mean: float
    sd: float | None
    sections: int
    seeds: int
    n: int


Group = tuple  # one value for each name of ``by``


def check_columns(by: Sequence[str]) -> list[str]:
    """The columns that rows are grouped by: those named, and the role, which is never averaged.

    Raises:
        RetortError: no such column, with the names that there are.
    """
    allowed = [name for name in list_columns() if name not in MEASURED]
    for name in by:
        if name not in allowed:
            raise RetortError(f"--by {name}: no such column; choose from {', '.join(allowed)}")
    return [*by, *(["role"] if "role" not in by else [])]


def name_condition(record: dict, by: Sequence[str]) -> str:
    """What a column of a pivoted table holds: what ``by`` leaves open of a record's condition.

    Corruptions are one condition, their mean, unless they are asked for one by one.
    """
    words = record["condition"]
    if record["corruption"]:
        attack = "" if record["attack"] in ("clean", "corruptions") else f"{record['attack']} on "
        variant = f" ({record['variant']})" if record.get("variant") else ""
        words = f"{attack}corruptions{variant}, severity {record['severity']}"
    elif "eps" in by and record["eps"]:
        words = words.rpartition(" at ")[0]
    if record["shifted"] and "test_set" not in by:
        words = f"{words} on {record['test_set']}"
    if record["epoch"] is not None and "epoch" not in by:
        words = f"{words}, epoch {record['epoch']}"
    return words


def pivot(records: Iterable[dict], by: Sequence[str]) -> dict[Group, dict[str, Cell]]:
    """Cells by group and condition, in the order in which the records name them; radii ascend."""
    found: dict[Group, dict[str, dict[str, dict[str, list[dict]]]]] = {}
    for record in records:
        group = tuple(record[name] for name in by)
        section = f"{record['role']}/{record['model']}"
        models = found.setdefault(group, {}).setdefault(name_condition(record, by), {})
        models.setdefault(section, {}).setdefault(record["key"], []).append(record)
    places = [list(dict.fromkeys(values)) for values in zip(*found, strict=True)]
    return {
        group: {name: make_cell(models) for name, models in found[group].items()}
        for group in sorted(found, key=lambda group: rank_group(group, places))
    }


def rank_group(group: Group, places: Sequence[list]) -> tuple:
    """A sort key: numbers by size, other values in the order in which they were first seen."""
    return tuple(
        value if isinstance(value, float) else seen.index(value)
        for value, seen in zip(group, places, strict=True)
    )


def make_cell(models: dict[str, dict[str, list[dict]]]) -> Cell:
    """The cell of some records, by section and model."""
    seeds = [
        [float(np.mean([r["accuracy"] for r in records])) for records in members.values()]
        for members in models.values()
    ]
    variances = [float(np.var(values, ddof=1)) for values in seeds if len(values) > 1]
    return Cell(
        mean=float(np.mean([np.mean(values) for values in seeds])),
        sd=sqrt(sum(variances) / len(variances)) if variances else None,
        sections=len(seeds),
        seeds=max(map(len, seeds)),
        n=min(r["n"] for members in models.values() for found in members.values() for r in found),
    )


def format_cell(cell: Cell | None, heading_n: int | None) -> str:
    """Percent: `63.9 ±1.2` (sd over seeds), `63.9 [60.9, 66.8]` for one model; n if it differs."""
    if cell is None:
        return NO_SPREAD
    text = f"{100 * cell.mean:.1f}"
    if cell.sd is not None:
        text += f" ±{100 * cell.sd:.1f}"
    elif cell.sections == 1:
        interval = wilson_interval(cell.mean, cell.n)
        text += f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]"
    return text if heading_n == cell.n else f"{text} (n={cell.n:,})"


def make_wide_table(
    cells: dict[Group, dict[str, Cell]], by: Sequence[str]
) -> tuple[list[str], list[list[str]]]:
    """Headings and rows in words; a heading says n where all its cells have the same."""
    conditions = list(dict.fromkeys(name for found in cells.values() for name in found))
    counts = {
        name: {found[name].n for found in cells.values() if name in found} for name in conditions
    }
    shared = {name: next(iter(n)) if len(n) == 1 else None for name, n in counts.items()}
    heads = [name if n is None else f"{name} (n={n:,})" for name, n in shared.items()]
    rows = [
        [
            *(format_group_value(*pair) for pair in zip(by, group, strict=True)),
            *(format_cell(found.get(name), shared[name]) for name in conditions),
            describe_range(cell.seeds for cell in found.values()),
        ]
        for group, found in cells.items()
    ]
    return [*by, *heads, "seeds"], rows


def format_group_value(name: str, value: str | int | float | bool | None) -> str:
    """A value of a column that rows are grouped by; a radius in grey levels."""
    if name == "eps":
        return format_radius(value) if value else "0"
    return "" if value is None else str(value)


def describe_range(values: Iterable[int]) -> str:
    """The values' smallest and largest: `3`, or `1–3`."""
    ordered = sorted(set(values))
    return str(ordered[0]) if len(ordered) == 1 else f"{ordered[0]}–{ordered[-1]}"


def make_long_records(cells: dict[Group, dict[str, Cell]], by: Sequence[str]) -> list[dict]:
    """One record for each cell, its accuracies in [0,1]."""
    return [
        {**dict(zip(by, group, strict=True)), "condition": name, **vars(cell)}
        for group, found in cells.items()
        for name, cell in found.items()
    ]


def format_wide_table(cells: dict[Group, dict[str, Cell]], by: Sequence[str], form: str) -> str:
    """The pivoted table as ``markdown`` or ``latex`` (booktabs)."""
    heads, rows = make_wide_table(cells, by)
    sides = ["left"] * len(by) + ["right"] * (len(heads) - len(by))
    style = {"markdown": "pipe", "latex": "latex_booktabs"}[form]
    if form == "markdown":
        rows = [[text.replace("|", "&#124;") for text in row] for row in rows]
    return tabulate(rows, heads, style, colalign=sides if rows else None, disable_numparse=True)


def format_json(records: Sequence[dict]) -> str:
    """Records as a JSON list."""
    return json.dumps(records, indent=1, ensure_ascii=False)
