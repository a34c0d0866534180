"""The report's tables of accuracy, as aligned Markdown that is also legible in a terminal."""

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, floor

from tabulate import tabulate

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint
from pipeline.core.seeding import make_generator
from pipeline.report.attack_labels import (
    format_attack,
    format_corruption,
    format_point_radius,
)
from pipeline.report.attack_points import (
    drop_radius,
    is_at,
    is_corruption,
    rank_by_columns,
    rank_by_strength,
)
from pipeline.report.outcomes import (
    CLEAN_POINT,
    DEFAULT_EPS,
    ModelGroup,
    Outcome,
    Study,
    align_outcomes,
    average_outcomes,
)
from pipeline.report.statistics.intervals import ConfidenceInterval, bootstrap_interval
from pipeline.schema import make_plugin
from pipeline.store.attempt_cost import sum_attempt_costs

REVISION = 5

MISSING_CELL = "–"
DOUBT_MARK = "(!)"  # beside a row whose robust accuracy may not be trusted
ROUNDING_SLACK = 1e-9
EQUAL_COST_FACTOR = 1.25  # costs within this factor count as equal
MOST_SURROGATES = 4  # models that transfer attacks in the main table come from
TableRows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Column:
    """A column of accuracies: its heading, the attack points it averages, and a remark."""

    heading: str
    points: tuple[AttackPoint, ...]
    remark: str = ""

    @property
    def full_heading(self) -> str:
        """The heading, with the remark in parentheses."""
        return f"{self.heading} ({self.remark})" if self.remark else self.heading


def format_markdown_table(headings: Sequence[str], rows: TableRows, left_columns: int = 1) -> str:
    """A Markdown table; the first ``left_columns`` are flush left, the others flush right."""
    cells = [[escape_markdown(cell) for cell in row] for row in (headings, *rows)]
    sides = ["left" if i < left_columns else "right" for i in range(len(headings))]
    return tabulate(cells[1:], cells[0], "pipe", colalign=sides, disable_numparse=True)


def format_caption(text: str) -> str:
    """A remark under a table or figure, in italics."""
    return f"*{text}*"


def escape_markdown(text: str) -> str:
    """Text without characters that end a table's cell or open a tag."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def make_columns(groups: Sequence[ModelGroup]) -> list[Column]:
    """Columns of the main table: one for each attack, and the mean over corruptions.

    An attack counts at radius 8/255, or at its largest radius if it has no 8/255. Its remark names
    another radius, and the number of images where that is smaller than for other attacks. Transfer
    attacks from many models have no columns here; they count in the worst case.
    """
    points = set().union(*(group.common_points for group in groups))
    columns = []
    attacks = {drop_radius(p) for p in points if not is_corruption(p)}
    surrogates = {p.surrogate for p in attacks} - {None}
    if len(surrogates) > MOST_SURROGATES:
        attacks = {p for p in attacks if p.surrogate is None}
    for attack in sorted(attacks, key=rank_by_strength):
        radii = sorted(p.eps for p in points if drop_radius(p) == attack)
        default_radii = [eps for eps in radii if is_at(replace(attack, eps=eps), DEFAULT_EPS)]
        point = replace(attack, eps=default_radii[0] if default_radii else radii[-1])
        remark = format_remark(point, groups, bool(default_radii))
        columns.append(Column(format_attack(point), (point,), remark))
    corruptions = sorted(filter(is_corruption, points), key=rank_by_columns)
    for variant in sorted({p.variant for p in corruptions}, key=str):
        averaged = tuple(p for p in corruptions if p.variant == variant)
        columns.append(Column("corruptions", averaged, describe_corruptions(averaged)))
    return columns


def describe_corruptions(points: Sequence[AttackPoint]) -> str:
    """What a mean over corruptions of one variant covers: strengths, number and severities."""
    severities = "/".join(map(str, sorted({p.severity for p in points})))
    strengths = f"{points[0].variant} strengths, " if points[0].variant else ""
    return f"{strengths}mean of {len(points)}, severity {severities}"


def format_remark(point: AttackPoint, groups: Sequence[ModelGroup], is_default_eps: bool) -> str:
    """A column's remark: a radius other than 8/255, and the number of images if not all."""
    image_counts = {
        (len(f[point].index), g.image_count) for g in groups for f in g.outcomes if point in f
    }
    partial = sorted({n for n, of in image_counts if n < of})
    parts = [f"eps {format_point_radius(point)}"] if point.eps and not is_default_eps else []
    parts += [f"first {'/'.join(map(str, partial))}"] if partial else []
    return ", ".join(parts)


def format_cell(group: ModelGroup, column: Column, brief: bool = False) -> str:
    """Percent: `63.9 ±1.2` for several seeds; `63.9 [60.9, 66.8]` or `63.9 [60, 67]` for one."""
    interval = group.estimate_accuracy(column.points)
    if interval is None:
        return MISSING_CELL
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    if len(group.members) > 1:
        return f"{value:.1f} ±{(high - low) / 2:.1f}"
    ends = (
        f"{floor(low + ROUNDING_SLACK)}, {ceil(high - ROUNDING_SLACK)}"
        if brief
        else f"{low:.1f}, {high:.1f}"
    )
    return f"{value:.1f} [{ends}]"


def format_amount(value: float) -> str:
    """A count or cost, with one decimal if it is below 10 and not a whole number."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def format_signed(value: float) -> str:
    """A difference with its sign; zero has none."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text


def describe_model_kind(group: ModelGroup) -> str:
    """The kind of model in a row: student, teacher or CLIP teacher."""
    is_clip_teacher = group.kind == "teacher" and get_spec(group.members[0].manifest).is_clip
    return "CLIP teacher" if is_clip_teacher else group.kind


def format_results_table(
    groups: Sequence[ModelGroup],
    brief: bool = False,
    suspicious: Set[tuple[str, str]] = frozenset(),
) -> str:
    """The main table; with ``brief`` it fits a terminal and remarks stand below it.

    Rows whose kind and name are ``suspicious`` have a mark beside their name.
    """
    columns = make_columns(groups)
    heads = [c.heading if brief and is_corruption(c.points[0]) else c.full_heading for c in columns]
    rows = [
        [
            f"{g.name} {DOUBT_MARK}" if (g.kind, g.name) in suspicious else g.name,
            describe_model_kind(g),
            *(format_cell(g, c, brief) for c in columns),
            g.image_count,
            len(g.members),
        ]
        for g in groups
    ]
    table = format_markdown_table(["model", "role", *heads, "n", "seeds"], rows, left_columns=2)
    if not brief:
        return table
    remarks = [f"{c.heading}: {c.remark}." for c in columns if c.full_heading not in heads]
    note = f"Percent with 95 % intervals ({describe_intervals(groups)})."
    remarks += [f"{DOUBT_MARK}: see the report's section «Suspicious?»."] if suspicious else []
    return "\n\n".join([table, " ".join([note, *remarks])]) + "\n"


def describe_intervals(groups: Sequence[ModelGroup]) -> str:
    """What the intervals cover: seeds or the sampling of test images."""
    if any(len(group.members) > 1 for group in groups):
        return f"± over {describe_seed_spread(groups)}; [ ] test-image sampling only"
    return "test-image sampling only, ends rounded outwards"


def describe_seed_spread(groups: Sequence[ModelGroup]) -> str:
    """What differs among a row's seeds, and what is the same for all."""
    warm_ups_differ = any(group.has_different_warm_ups for group in groups)
    return (
        f"student seeds{' and their warm-ups' if warm_ups_differ else ''}, teachers and banks fixed"
    )


def format_corruption_table(groups: Sequence[ModelGroup]) -> str:
    """The table with one column for each corruption; empty if there is none."""
    points = sorted(set().union(*(g.common_points for g in groups)), key=rank_by_columns)
    columns = [Column(format_corruption(p), (p,)) for p in points if is_corruption(p)]
    rows = [[g.name, describe_model_kind(g), *(format_cell(g, c) for c in columns)] for g in groups]
    return (
        format_markdown_table(
            ["model", "role", *(c.heading for c in columns)], rows, left_columns=2
        )
        if columns
        else ""
    )


def format_comparison_table(study: Study) -> str:
    """The table of students with a bank against those without, one row for each comparable pair."""
    students = [g for g in study.evaluated_groups if g.kind == "student"]
    pairs = [(a, b) for a, b in product(students, students) if is_comparable_pair(a, b)]
    column = next(
        (c for c in make_columns(study.evaluated_groups) if is_corruption(c.points[0])), None
    )
    rows = []
    for bank_group, other_group in pairs:
        costs = [compute_costs(study, group) for group in (bank_group, other_group)]
        rows.append(
            [
                f"{bank_group.name} – {other_group.name}",
                format_difference(bank_group, other_group, (CLEAN_POINT,)),
                format_difference(bank_group, other_group, column.points)
                if column
                else MISSING_CELL,
                *(f"{format_amount(a)} / {format_amount(b)}" for a, b in zip(*costs, strict=True)),
                list_equal_costs(*costs),
            ]
        )
    head = ["pair", "clean", column.full_heading if column else "corruptions"]
    head += ["epochs", "CPU-seconds", "samples seen", "equal"]
    return format_markdown_table(head, rows) if rows else ""


def is_comparable_pair(bank_group: ModelGroup, other_group: ModelGroup) -> bool:
    """Whether only the first has a bank, and both have one architecture and data set."""
    one, two = bank_group.members[0].manifest, other_group.members[0].manifest
    same = get_spec(one).model == get_spec(two).model
    same &= one.inputs.get("dataset") == two.inputs.get("dataset") is not None
    return "bank" in one.inputs and "bank" not in two.inputs and same


def format_difference(first: ModelGroup, second: ModelGroup, points: Sequence[AttackPoint]) -> str:
    """First accuracy minus second in points, with a bootstrap interval over common images."""
    pair = [group.average_by_member(points) for group in (first, second)]
    if not all(pair):
        return MISSING_CELL
    a, b = align_outcomes(*(average_outcomes(found) for found in pair))
    interval = estimate_difference(a, b, f"{first.name}-{second.name}")
    value, low, high = (
        format_signed(100 * x) for x in (interval.value, interval.low, interval.high)
    )
    return f"{value} [{low}, {high}]"


def estimate_difference(first: Outcome, second: Outcome, name: str) -> ConfidenceInterval:
    """Mean difference of two outcomes on the same images, with its bootstrap interval."""
    return bootstrap_interval(
        first.correctness - second.correctness, make_generator("bootstrap", name)
    )


def compute_costs(study: Study, group: ModelGroup) -> tuple[float, float, float]:
    """A student's epochs, CPU-seconds (mean over seeds) and number of images it was trained on."""
    first = group.members[0].manifest
    spec = get_spec(first)
    recipe = spec.recipe
    train = study.artefacts[f"dataset/{first.inputs['dataset']}"].manifest.facts["counts"]["train"]
    seen = recipe.epochs * (train // recipe.batch) * recipe.batch
    seconds = sum(sum_attempt_costs(m.folder)["cpu_seconds"] for m in group.members) / len(
        group.members
    )
    ((name, options),) = spec.objective.items()
    reads_bank_samples = "x_adv" in make_plugin("objectives", "Objective", name, options).needs()
    return recipe.epochs, seconds, seen * (1 + reads_bank_samples)


def list_equal_costs(
    bank_costs: tuple[float, float, float], other_costs: tuple[float, float, float]
) -> str:
    """The costs that are equal: epochs exactly, the others within a factor of 1.25."""
    names = ["epochs", "CPU-seconds", "samples"]
    close = [
        a <= EQUAL_COST_FACTOR * b and b <= EQUAL_COST_FACTOR * a
        for a, b in zip(bank_costs, other_costs, strict=True)
    ]
    close[0] = bank_costs[0] == other_costs[0]
    return ", ".join(n for n, same in zip(names, close, strict=True) if same) or MISSING_CELL
