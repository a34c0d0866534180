"""What students learn from each bank: `python -m benchmarks.bank_students`.

    python -m benchmarks.bank_students [--beside student] [configuration]

Prints a row for each student of several seeds that has finished them all and learns from a bank of
discretised samples: percent, mean over the seeds with half of Student's t interval (95 %). In
brackets stands the mean difference from the student beside it, paired by seed, with its interval.
That is the first student of the same seeds whose bank has the same discretizer and no attack;
`--beside` names another for all rows that have its seeds.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from benchmarks.study_table import find_unfinished, open_finished
from pipeline.core.attack_protocol import AttackPoint
from pipeline.planning.graph import make_plan_from_files
from pipeline.report.attack_points import is_corruption, is_shifted
from pipeline.report.outcomes import CLEAN_POINT, ModelGroup, Study
from pipeline.report.statistics.intervals import student_t_interval
from pipeline.store.artefact import Artefact

ROOT = Path(__file__).parents[1]
USUAL = "workflow/dad-gain.yaml"
HEADINGS = ("bank", "beside", "clean", "PGD", "corruptions")


def find_measures(group: ModelGroup) -> tuple[list[AttackPoint], ...]:
    """The points of each measure: clean images, PGD at all its radii, all corruptions."""
    points = group.common_points
    return (
        [p for p in points if p == CLEAN_POINT],
        [p for p in points if p.attack == "pgd" and not p.surrogate and not is_shifted(p)],
        [p for p in points if is_corruption(p)],
    )


def read_accuracies(group: ModelGroup) -> list[list[float]]:
    """Accuracy in [0,1] of every seed under each measure; empty for one that was not taken."""
    return [
        [o.accuracy for o in group.average_by_member(points)] if points else []
        for points in find_measures(group)
    ]


def find_bank(study: Study, group: ModelGroup) -> Artefact | None:
    """The bank of discretised samples that a student learns from; None without one."""
    key = group.members[0].manifest.inputs.get("bank")
    bank = study.artefacts.get(f"bank/{key}")
    return bank if bank and "discretizer" in bank.manifest.inputs else None


def list_seeds(group: ModelGroup) -> list[int]:
    """The seed of each member."""
    return [member.manifest.spec["seed"] for member in group.members]


def find_beside(study: Study, group: ModelGroup, groups: Sequence[ModelGroup]) -> ModelGroup | None:
    """The first group of the same seeds whose bank has the same inputs and no attack, if any."""
    inputs, seeds = find_bank(study, group).manifest.inputs, list_seeds(group)
    for other in groups:
        manifest = find_bank(study, other).manifest
        has_attack = bool(manifest.spec.get("attack"))
        if manifest.inputs == inputs and not has_attack and list_seeds(other) == seeds:
            return other
    return None


def format_percent(values: Sequence[float], signed: bool = False) -> str:
    """Mean and half of Student's t interval of shares in [0,1], in percent."""
    interval = student_t_interval(values)
    sign = "+" if signed else ""
    return f"{100 * interval.value:{sign}.1f} ±{100 * interval.half_width:.1f}"


def format_cell(own: Sequence[float], beside: Sequence[float]) -> str:
    """Accuracy, and the difference from the student beside it where both were measured."""
    if not own:
        return "–"
    if not beside:
        return format_percent(own)
    differences = [a - b for a, b in zip(own, beside, strict=True)]
    return f"{format_percent(own)} ({format_percent(differences, signed=True)})"


def format_student(group: ModelGroup, beside: ModelGroup | None) -> str:
    """A student's row; the one that others stand beside has no differences."""
    has_other = (
        bool(beside) and beside.name != group.name and list_seeds(beside) == list_seeds(group)
    )
    own = read_accuracies(group)
    others = read_accuracies(beside) if has_other else [[]] * len(own)
    cells = [format_cell(a, b) for a, b in zip(own, others, strict=True)]
    return f"| {' | '.join([group.name, beside.name if has_other else '–', *cells])} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, in percent and points."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("configuration", nargs="?", default=USUAL, help=f"usually {USUAL}")
    options.add_argument("--beside", help="name of the student that all others stand beside")
    given = options.parse_args(arguments)
    plan = make_plan_from_files(ROOT / given.configuration)
    study, unfinished = open_finished(plan), find_unfinished(plan)
    groups = [g for g in study.evaluated_groups if g.kind == "student" and g.name not in unfinished]
    groups = [g for g in groups if len(g.members) > 1 and find_bank(study, g)]
    named = next((g for g in groups if g.name == given.beside), None)
    if given.beside and named is None:
        options.error(f"--beside {given.beside}: one of {', '.join(g.name for g in groups)}")
    print(f"| {' | '.join(HEADINGS)} |\n|---|---|{'--:|' * (len(HEADINGS) - 2)}")
    for group in groups:
        print(format_student(group, named or find_beside(study, group, groups)))


if __name__ == "__main__":
    main()
