"""The table of a study of objectives, from its outcomes: `python -m benchmarks.study_table`.

    python -m benchmarks.study_table [--measures clean pgd autoattack] [configuration]

Prints a row for each finished method. Clean and PGD-20 are means over the seeds with Student's t
interval. AutoAttack is the first seed alone, with Wilson's interval over images, beside PGD-20 of
the same student on the same images. The numbers go to `benchmarks/results/data/objectives.json`,
the paired comparisons of all methods to `objectives-pairs.csv` beside it. What other measures these
files hold stays, so that a measure can be made anew by itself.
"""

import argparse
import csv
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.planning.graph import make_plan_from_files
from pipeline.planning.plan import Plan
from pipeline.report.outcomes import ModelGroup, Outcome, Study, align_outcomes
from pipeline.report.statistics.intervals import (
    ConfidenceInterval,
    student_t_interval,
    wilson_interval,
)
from pipeline.report.statistics.paired import PairedComparison, compare_outcomes
from pipeline.store.artefact import open_artefact
from pipeline.store.attempt_cost import sum_attempt_costs

ROOT = Path(__file__).parents[1]
USUAL = "workflow/study.yaml"
DATA = ROOT / "benchmarks" / "results" / "data"
MEASURES = ("clean", "pgd", "autoattack")  # names of attacks
FIRST_SEED_ALONE = "autoattack"
PAIR_HEADINGS = (
    *("measure", "first", "second", "seeds", "images"),
    *("difference", "low", "high", "p", "p_holm"),
)


@dataclass(frozen=True)
class Method:
    """A student over its seeds: the outcomes of each seed by measure, and its mean CPU seconds."""

    name: str
    outcomes: dict[str, list[Outcome]]
    cpu_seconds: float

    def estimate_accuracy(self, measure: str) -> ConfidenceInterval | None:
        """Accuracy in [0,1] over seeds, or of one seed over images; None if not measured."""
        found = self.outcomes.get(measure, [])
        if len(found) > 1:
            return student_t_interval([outcome.accuracy for outcome in found])
        return wilson_interval(found[0].accuracy, len(found[0].index)) if found else None


def open_finished(plan: Plan) -> Study:
    """The study of a plan's finished artefacts."""
    refs = [ref for ref in plan.artefacts if plan.is_complete(ref)]
    names = {f"{kind}/{name}": ref for (kind, name), ref in plan.refs_by_name.items()}
    return Study({ref: open_artefact(plan.folder_path(ref)) for ref in refs}, names)


def find_unfinished(plan: Plan) -> set[str]:
    """Names of the students that have not finished every seed."""
    return {
        name.rpartition("-")[0]
        for (kind, name), ref in plan.refs_by_name.items()
        if kind == "student" and not plan.is_complete(ref)
    }


def read_method(group: ModelGroup) -> Method:
    """A student's outcomes by measure: of each seed, but AutoAttack's of the first alone."""
    outcomes = {}
    for measure in MEASURES:
        members = group.outcomes[:1] if measure == FIRST_SEED_ALONE else group.outcomes
        found = [o for member in members for point, o in member.items() if point.attack == measure]
        if len(found) == len(members):
            outcomes[measure] = found
    costs = [sum_attempt_costs(member.folder)["cpu_seconds"] for member in group.members]
    return Method(group.name, outcomes, sum(costs) / len(costs))


def format_interval(interval: ConfidenceInterval | None, over_images: bool) -> str:
    """Percent with the interval's half width, or its ends where it is over images."""
    if interval is None:
        return "–"
    value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
    ends = f"[{low:.1f}, {high:.1f}]" if over_images else f"±{high - value:.1f}"
    return f"{value:.1f} {ends}"


def format_row(method: Method) -> str:
    """A method's row of the table."""
    cells = [
        format_interval(method.estimate_accuracy(m), len(method.outcomes.get(m, ())) == 1)
        for m in MEASURES
    ]
    beside = "–"
    if {"pgd", "autoattack"} <= method.outcomes.keys():
        pgd, _ = align_outcomes(method.outcomes["pgd"][0], method.outcomes["autoattack"][0])
        beside = f"{100 * pgd.accuracy:.1f}"
    return f"| {' | '.join([method.name, *cells, beside, f'{method.cpu_seconds:.0f}'])} |"


def compare_methods(methods: Sequence[Method], measure: str) -> list[PairedComparison]:
    """Every pair of the methods that have a measure, corrected for how many pairs there are."""
    return compare_outcomes({m.name: m.outcomes[measure] for m in methods if measure in m.outcomes})


def round_percent(share: float) -> float:
    """A share in percent, with two digits."""
    return round(100 * share, 2)


def update_numbers(path: Path, methods: Sequence[Method], measures: Sequence[str]) -> None:
    """Write each method's accuracy and interval, in percent; other measures stay as they are."""
    numbers = json.loads(path.read_text()) if path.exists() else {}
    for method in methods:
        for measure in measures:
            if interval := method.estimate_accuracy(measure):
                ends = {end: round_percent(share) for end, share in asdict(interval).items()}
                numbers.setdefault(method.name, {})[measure] = ends
    path.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def update_pairs(path: Path, methods: Sequence[Method], measures: Sequence[str]) -> None:
    """Write the paired comparisons, in points; those of other measures stay as they are."""
    rows = []
    if path.exists():
        known = csv.reader(path.read_text().splitlines())
        rows = [row for row in known if row[0] not in (*measures, PAIR_HEADINGS[0])]
    for measure in measures:
        seeds = max((len(m.outcomes.get(measure, ())) for m in methods), default=0)
        for pair in compare_methods(methods, measure):
            found = pair.difference
            ends = [round_percent(share) for share in (found.value, found.low, found.high)]
            p_values = [f"{p:.2g}" for p in (pair.p_value, pair.adjusted_p_value)]
            rows.append([measure, pair.first, pair.second, seeds, pair.images, *ends, *p_values])
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([PAIR_HEADINGS, *rows])


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table and write the two files."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("configuration", nargs="?", default=ROOT / USUAL, type=Path)
    parser.add_argument("--measures", nargs="+", choices=MEASURES, default=MEASURES)
    parser.add_argument("--out", default=DATA, type=Path, help="folder of the two files")
    asked = parser.parse_args(arguments)
    plan = make_plan_from_files(asked.configuration)
    study = open_finished(plan)
    left_out = find_unfinished(plan)
    groups = [g for g in study.groups if g.kind == "student" and g.name not in left_out]
    methods = [read_method(group) for group in groups]
    print("| objective | clean | PGD-20 | AutoAttack | PGD-20 on these | CPU s |")
    print("| --- | --: | --: | --: | --: | --: |")
    for method in methods:
        print(format_row(method))
    update_numbers(asked.out / "objectives.json", methods, asked.measures)
    update_pairs(asked.out / "objectives-pairs.csv", methods, asked.measures)


if __name__ == "__main__":
    main()
