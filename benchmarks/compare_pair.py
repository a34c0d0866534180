"""Two students under each attack, over all their seeds: `python -m benchmarks.compare_pair`.

    python -m benchmarks.compare_pair first second configuration [configuration ...]

Prints a row for each attack that both met in every seed: both accuracies in percent, and first
minus second in points with the report's 95 % interval and p, over all seeds and for each seed by
itself. Nothing is corrected for how many rows there are.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study_table import open_finished
from pipeline.core.attack_protocol import AttackPoint
from pipeline.planning.graph import make_plan_from_files
from pipeline.report.attack_labels import format_attack_at
from pipeline.report.attack_points import is_shifted, rank_by_strength
from pipeline.report.outcomes import ModelGroup, Outcome
from pipeline.report.statistics.paired import compare_outcomes

HEADINGS = ("attack", "images", "first", "second", "all seeds", "each seed")


def format_difference(first: Sequence[Outcome], second: Sequence[Outcome]) -> str:
    """First minus second in points, with its interval and p: `+1.8 [+0.1, +3.6], p = 0.043`."""
    (pair,) = compare_outcomes({"first": first, "second": second})
    value, low, high = (100 * share for share in vars(pair.difference).values())
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}], p = {pair.p_value:.2g}"


def format_row(point: AttackPoint, first: ModelGroup, second: ModelGroup) -> str:
    """The row of one attack; the students have equally many seeds."""
    one, two = ([found[point] for found in group.outcomes] for group in (first, second))
    means = [100 * sum(o.accuracy for o in outcomes) / len(outcomes) for outcomes in (one, two)]
    each = [format_difference([a], [b]) for a, b in zip(one, two, strict=True)]
    cells = [
        format_attack_at(point),
        f"{len(one[0].index):,}",
        *(f"{mean:.1f}" for mean in means),
        format_difference(one, two),
        "; ".join(each),
    ]
    return f"| {' | '.join(cells)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("first", help="name of a student")
    parser.add_argument("second", help="name of a student")
    parser.add_argument("configuration", nargs="+", type=Path)
    asked = parser.parse_args(arguments)
    study = open_finished(make_plan_from_files(*asked.configuration))
    students = {group.name: group for group in study.groups if group.kind == "student"}
    if missing := [name for name in (asked.first, asked.second) if name not in students]:
        parser.error(f"{missing[0]} is no finished student; there are {', '.join(students)}")
    first, second = students[asked.first], students[asked.second]
    if len(first.members) != len(second.members):
        parser.error(f"{asked.first} and {asked.second} have not finished equally many seeds")
    shared = first.common_points & second.common_points
    print(f"| {' | '.join(HEADINGS)} |\n|---|--:|--:|--:|---|---|")
    for point in sorted(shared, key=rank_by_strength):
        if not is_shifted(point):
            print(format_row(point, first, second))


if __name__ == "__main__":
    main()
