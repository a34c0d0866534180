"""The report's sections on every radius, the worst case, calibration, and pairs of students."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.report.attack_labels import format_attack, format_attack_at
from pipeline.report.outcomes import CLEAN_POINT, ModelGroup, Study, find_accuracy_curves
from pipeline.report.statistics.calibration import estimate_group_calibration
from pipeline.report.statistics.intervals import ConfidenceInterval
from pipeline.report.statistics.paired import PairedComparison, compare_outcomes
from pipeline.report.statistics.worst_case import (
    Radius,
    estimate_worst_case,
    find_shared_radius,
    find_worst_case,
    list_shared_points,
    measure_autoattack_gap,
)
from pipeline.report.tables import (
    MISSING_CELL,
    Column,
    describe_model_kind,
    format_caption,
    format_cell,
    format_markdown_table,
    format_signed,
)

REVISION = 3

WORST_CAPTION = (
    "Percent with 95 % intervals. Worst case: an image counts only if it is right without attack "
    "and under every attack at eps {ball} that the model met, on the images that all of them saw "
    "(n). ECE: calibration error on clean images over 15 bins, in points; the interval "
    "of one seed is the basic bootstrap's over images, that of several Student's t over seeds."
)
PAIR_CAPTION = (
    "First minus second in points, on the same images, with 95 % bootstrap intervals (seeds are "
    "drawn first, then images). p: McNemar's exact test for one seed each, else the bootstrap's; "
    "corrected by Holm for all pairs of this table. «no» means that these images show no "
    "difference. The worst case takes the attacks that every student met in all its seeds."
)
THOROUGH_ATTACKS = ("apgd", "multitargeted")  # which no suite has by chance
MOST_PAIRS = 30  # rows of a table of pairs in the page; beyond it, the smallest p-values


def make_radius_columns(groups: Sequence[ModelGroup]) -> list[Column]:
    """A column for every radius of each attack that ran at several."""
    curves = find_accuracy_curves(groups)
    points = [replace(attack, eps=eps) for attack, radii in curves.items() for eps in radii]
    return [
        Column(format_attack_at(p) if p.eps else f"{format_attack(p)} at 0", (p,)) for p in points
    ]


def format_radius_table(groups: Sequence[ModelGroup]) -> str:
    """Accuracy at every radius as numbers; empty if no attack ran at several."""
    columns = make_radius_columns(groups)
    rows = [[g.name, describe_model_kind(g), *(format_cell(g, c) for c in columns)] for g in groups]
    heads = ["model", "role", *(c.heading for c in columns)]
    return format_markdown_table(heads, rows, left_columns=2) if columns else ""


def format_percent(interval: ConfidenceInterval | None, seeds: int) -> str:
    """A value in [0,1] with its interval, in percent, as in the main table."""
    if interval is None:
        return MISSING_CELL
    value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
    return (
        f"{value:.1f} ±{(high - low) / 2:.1f}"
        if seeds > 1
        else f"{value:.1f} [{low:.1f}, {high:.1f}]"
    )


def format_worst_table(groups: Sequence[ModelGroup], radius: Radius) -> str:
    """Worst case and calibration of each model; empty if neither is known of any."""
    rows, is_known = [], False
    for group in groups:
        worst, error = estimate_worst_case(group, radius), estimate_group_calibration(group)
        seeds = len(group.members)
        interval, n = worst if worst is not None else (None, None)
        cells = [format_percent(interval, seeds), f"{n:,}" if n else MISSING_CELL]
        rows.append([group.name, describe_model_kind(group), *cells, format_percent(error, seeds)])
        is_known |= worst is not None or error is not None
    heads = ["model", "role", "worst case", "n", "ECE"]
    return format_markdown_table(heads, rows, left_columns=2) if is_known else ""


def list_gaps(study: Study, radius: Radius) -> list[str]:
    """A line for each model that met attacks of the preset `thorough`: its gap to AutoAttack."""
    lines = []
    for group in study.evaluated_groups:
        for member, outcomes in zip(group.members, group.outcomes, strict=True):
            gap = measure_autoattack_gap(outcomes, radius)
            if gap is None or not any(p.attack in THOROUGH_ATTACKS for p in outcomes):
                continue
            lines.append(
                f"{study.find_name(member.manifest.key)}: {100 * gap.autoattack:.1f} % under "
                f"AutoAttack at {radius}; {gap.attacks} other attacks together bring it to "
                f"{100 * gap.together:.1f} %, {100 * gap.gap:.1f} points below "
                f"({gap.images:,} images)."
            )
    return lines


def compare_students(
    groups: Sequence[ModelGroup], radius: Radius
) -> dict[str, list[PairedComparison]]:
    """Every pair of students, by what they are compared on: clean images, and the worst case."""
    students = [g for g in groups if g.kind == "student"]
    clean = {g.name: found for g in students if (found := g.average_by_member([CLEAN_POINT]))}
    attacked = [g for g in students if any(map(radius.is_of, g.common_points))]
    points = list_shared_points(attacked, radius)
    worst = {
        g.name: [find_worst_case({p: o[p] for p in points}, radius) for o in g.outcomes]
        for g in attacked
    }
    worst = {name: found for name, found in worst.items() if None not in found}
    compared = {"clean": clean, f"worst case at {radius}": worst}
    return {what: compare_outcomes(models) for what, models in compared.items() if len(models) > 1}


def format_pair_table(pairs: Sequence[PairedComparison]) -> str:
    """A row for each pair, the clearest differences first."""
    rows = []
    for pair in sorted(pairs, key=lambda p: p.adjusted_p_value)[:MOST_PAIRS]:
        value, low, high = (
            format_signed(100 * v)
            for v in (pair.difference.value, pair.difference.low, pair.difference.high)
        )
        p = f"{pair.adjusted_p_value:.2g}" if pair.adjusted_p_value >= 0.001 else "< 0.001"
        rows.append(
            [
                f"{pair.first} – {pair.second}",
                f"{value} [{low}, {high}]",
                f"{pair.images:,}",
                p,
                "yes" if pair.is_significant else "no",
            ]
        )
    return format_markdown_table(["pair", "difference", "n", "p", "differ"], rows)


def format_statistics(study: Study) -> list[str]:
    """The sections' Markdown; those without data are left out."""
    groups, parts = study.evaluated_groups, []
    radius = find_shared_radius(groups)
    if radii := format_radius_table(groups):
        parts += ["### Every radius", radii]
    if worst := format_worst_table(groups, radius):
        ball = str(radius) if radius.norm else f"{radius} in L-infinity"
        caption = format_caption(WORST_CAPTION.format(ball=ball))
        parts += ["### Worst case and calibration", worst, caption]
    if gaps := list_gaps(study, radius):
        parts += ["### Thorough check", "\n".join(f"- {line}" for line in gaps)]
    for what, pairs in compare_students(groups, radius).items():
        left_out = f" The {MOST_PAIRS} clearest of {len(pairs)}." if len(pairs) > MOST_PAIRS else ""
        caption = format_caption(PAIR_CAPTION + left_out)
        parts += [f"### Pairs of students, {what}", format_pair_table(pairs), caption]
    return parts
