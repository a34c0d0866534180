"""The report's tables, as aligned Markdown that also reads well in a terminal."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import ceil, floor

from tabulate import tabulate

from pipeline.config.specs import spec_of
from pipeline.core.attack_protocol import AttackPoint
from pipeline.core.seeding import generator
from pipeline.report.attack_labels import (
    NEAR,
    format_attack,
    format_corruption,
    format_radius,
)
from pipeline.report.intervals import Interval, bootstrap
from pipeline.report.outcomes import (
    CLEAN,
    USUAL_EPS,
    Group,
    Outcome,
    Study,
    in_order,
    is_corruption,
    mean_of,
    paired,
    strength,
    without_radius,
)
from pipeline.schema import make
from pipeline.store.attempt_cost import cost_of

REVISION = 3

NONE = "–"
TINY = 1e-9
NEARLY = 1.25  # costs within this factor count as equal
Rows = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Column:
    """A measured column: its head, the attacks it averages, and a remark for the head."""

    head: str
    points: tuple[AttackPoint, ...]
    remark: str = ""

    @property
    def full(self) -> str:
        """Head and remark."""
        return f"{self.head} ({self.remark})" if self.remark else self.head


def grid(head: Sequence[str], rows: Rows, left: int = 1) -> str:
    """A Markdown table; the first ``left`` columns are flush left, the others flush right."""
    cells = [[plain(cell) for cell in row] for row in (head, *rows)]
    sides = ["left" if i < left else "right" for i in range(len(head))]
    return tabulate(cells[1:], cells[0], "pipe", colalign=sides, disable_numparse=True)


def caption(text: str) -> str:
    """A remark under a table or figure."""
    return f"*{text}*"


def plain(text: str) -> str:
    """Text that neither ends a table's cell nor opens a tag."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def columns_of(groups: Sequence[Group]) -> list[Column]:
    """Columns of the main table: one an attack, at 8/255 or its largest radius; corruptions' mean.

    An attack that saw fewer images than the others says so in its head.
    """
    points = set().union(*(group.points for group in groups))
    columns = []
    attacks = {without_radius(p) for p in points if not is_corruption(p)}
    for attack in sorted(attacks, key=strength):
        radii = sorted(p.eps for p in points if without_radius(p) == attack)
        usual = [eps for eps in radii if abs(eps - USUAL_EPS) < NEAR]
        point = replace(attack, eps=usual[0] if usual else radii[-1])
        remark = remark_of(point, groups, bool(usual))
        columns.append(Column(format_attack(point), (point,), remark))
    corruptions = tuple(sorted(filter(is_corruption, points), key=in_order))
    if corruptions:
        severities = "/".join(map(str, sorted({p.severity for p in corruptions})))
        remark = f"mean of {len(corruptions)}, severity {severities}"
        columns.append(Column("corruptions", corruptions, remark))
    return columns


def remark_of(point: AttackPoint, groups: Sequence[Group], usual: bool) -> str:
    """What a column's head must say: an unusual radius, and how many images if not all."""
    sizes = {(len(f[point].index), g.images) for g in groups for f in g.outcomes if point in f}
    partial = sorted({n for n, of in sizes if n < of})
    parts = [f"eps {format_radius(point.eps)}"] if point.eps and not usual else []
    parts += [f"first {'/'.join(map(str, partial))}"] if partial else []
    return ", ".join(parts)


def cell(group: Group, column: Column, brief: bool = False) -> str:
    """Percent: `63.9 ±1.2` over seeds, `63.9 [60.9, 66.8]` or `63.9 [60, 67]` for one."""
    interval = group.estimate(column.points)
    if interval is None:
        return NONE
    value, low, high = (100 * x for x in (interval.value, interval.low, interval.high))
    if len(group.members) > 1:
        return f"{value:.1f} ±{(high - low) / 2:.1f}"
    ends = f"{floor(low + TINY)}, {ceil(high - TINY)}" if brief else f"{low:.1f}, {high:.1f}"
    return f"{value:.1f} [{ends}]"


def amount(value: float) -> str:
    """A count or cost, with a decimal where it is small."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def signed(value: float) -> str:
    """A difference with its sign, but for zero."""
    text = f"{value:+.1f}"
    return "0.0" if float(text) == 0 else text


def role_of(group: Group) -> str:
    """What a row is: a student, a teacher, or a teacher that is a CLIP."""
    clip = group.kind == "teacher" and spec_of(group.members[0].manifest).is_clip
    return "CLIP teacher" if clip else group.kind


def results(groups: Sequence[Group], brief: bool = False) -> str:
    """The main table; briefly, it fits a terminal and long heads move below it."""
    columns = columns_of(groups)
    heads = [c.head if brief and is_corruption(c.points[0]) else c.full for c in columns]
    rows = [
        [g.name, role_of(g), *(cell(g, c, brief) for c in columns), g.images, len(g.members)]
        for g in groups
    ]
    table = grid(["model", "role", *heads, "n", "seeds"], rows, left=2)
    if not brief:
        return table
    remarks = [f"{c.head}: {c.remark}." for c in columns if c.full not in heads]
    note = f"Percent with 95 % intervals ({covers(groups)})."
    return "\n\n".join([table, " ".join([note, *remarks])]) + "\n"


def covers(groups: Sequence[Group]) -> str:
    """What the intervals are over."""
    if any(len(group.members) > 1 for group in groups):
        return f"± over {spread_over(groups)}; [ ] test-image sampling only"
    return "test-image sampling only, ends rounded outwards"


def spread_over(groups: Sequence[Group]) -> str:
    """What differs among a row's seeds, and what is the same for all of them."""
    warm = any(group.warmed_apart for group in groups)
    return f"student seeds{' and their warm-ups' if warm else ''}, teachers and banks fixed"


def corruptions(groups: Sequence[Group]) -> str:
    """Each corruption by itself; empty if none was tried."""
    points = sorted(set().union(*(g.points for g in groups)), key=in_order)
    columns = [Column(format_corruption(p), (p,)) for p in points if is_corruption(p)]
    rows = [[g.name, role_of(g), *(cell(g, c) for c in columns)] for g in groups]
    return grid(["model", "role", *(c.head for c in columns)], rows, left=2) if columns else ""


def comparisons(study: Study) -> str:
    """Every student that learnt from a bank against every one like it that did not."""
    students = [g for g in study.evaluated if g.kind == "student"]
    pairs = [(a, b) for a, b in product(students, students) if comparable(a, b)]
    column = next((c for c in columns_of(study.evaluated) if is_corruption(c.points[0])), None)
    rows = []
    for bank, other in pairs:
        costs = [costs_of(study, group) for group in (bank, other)]
        rows.append(
            [
                f"{bank.name} – {other.name}",
                difference(bank, other, (CLEAN,)),
                difference(bank, other, column.points) if column else NONE,
                *(f"{amount(a)} / {amount(b)}" for a, b in zip(*costs, strict=True)),
                compared_at(*costs),
            ]
        )
    head = ["pair", "clean", column.full if column else "corruptions"]
    head += ["epochs", "CPU-seconds", "samples seen", "equal"]
    return grid(head, rows) if rows else ""


def comparable(bank: Group, other: Group) -> bool:
    """Whether only one learnt from a bank, and architecture and data set are the same."""
    one, two = bank.members[0].manifest, other.members[0].manifest
    same = spec_of(one).model == spec_of(two).model
    same &= one.inputs.get("dataset") == two.inputs.get("dataset") is not None
    return "bank" in one.inputs and "bank" not in two.inputs and same


def difference(one: Group, two: Group, points: Sequence[AttackPoint]) -> str:
    """Accuracy of one minus two in points, with a bootstrap interval over common images."""
    pair = [group.each(points) for group in (one, two)]
    if not all(pair):
        return NONE
    a, b = paired(*(mean_of(found) for found in pair))
    interval = gap(a, b, f"{one.name}-{two.name}")
    value, low, high = (signed(100 * x) for x in (interval.value, interval.low, interval.high))
    return f"{value} [{low}, {high}]"


def gap(a: Outcome, b: Outcome, name: str) -> Interval:
    """Mean difference of two outcomes on the same images, with its interval."""
    return bootstrap(a.right - b.right, generator("bootstrap", name))


def costs_of(study: Study, group: Group) -> tuple[float, float, float]:
    """Epochs, CPU-seconds (mean over seeds) and samples seen of a student on a data set."""
    first = group.members[0].manifest
    spec = spec_of(first)
    recipe = spec.recipe
    train = study.artifacts[f"dataset/{first.inputs['dataset']}"].manifest.facts["counts"]["train"]
    seen = recipe.epochs * (train // recipe.batch) * recipe.batch
    seconds = sum(cost_of(m.folder)["cpu_seconds"] for m in group.members) / len(group.members)
    ((name, options),) = spec.objective.items()
    twice = "x_adv" in make("objectives", "Objective", name, options).needs()
    return recipe.epochs, seconds, seen * (1 + twice)


def compared_at(bank: tuple[float, float, float], other: tuple[float, float, float]) -> str:
    """Which of the costs are equal, to within a factor of 1.25 but for epochs."""
    names = ["epochs", "CPU-seconds", "samples"]
    close = [a <= NEARLY * b and b <= NEARLY * a for a, b in zip(bank, other, strict=True)]
    close[0] = bank[0] == other[0]
    return ", ".join(n for n, same in zip(names, close, strict=True) if same) or NONE
