"""A printed table with our numbers beside it, as plain data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.discovery import load_plugin
from pipeline.report.papers.differences import describe_differences
from pipeline.report.papers.methods import MethodRule, find_rule
from pipeline.report.papers.metrics import (
    DEFAULT_RADIUS,
    ColumnQuery,
    Measurements,
    Score,
    measure,
)
from pipeline.report.papers.networks import is_family, is_network, list_printed_teachers
from pipeline.report.papers.printed import PrintedTable, PrintedValue, RowIdentity
from pipeline.report.papers.settings import Setting, TeacherSetting
from pipeline.report.papers.training_counts import COUNTED, count_training
from pipeline.schema import get_defaults

REVISION = 3

DERD_IMAGENET_RADIUS = 0.03
DAD_RADIUS = 4 / 255  # it prints none
SCALE_OPTIONS = ("eps", "step", "steps", "kd_scale")  # say nothing of which method it is


@dataclass(frozen=True)
class Model:
    """One of our models: its name in the report, how it was made, and what was measured."""

    name: str
    setting: Setting
    measured: Measurements


@dataclass(frozen=True)
class Column:
    """A printed column; ``label`` tells its means over data sets apart."""

    metric: str
    label: str
    unit: str


@dataclass(frozen=True)
class Cell:
    """A printed value and ours; None where there is none."""

    printed: PrintedValue | None
    ours: Score | None

    @property
    def difference(self) -> float | None:
        """Ours less the printed value, in the column's unit; None if one is missing."""
        if self.ours is None or self.printed is None or self.printed.value is None:
            return None
        return self.ours.value - self.printed.value


@dataclass(frozen=True)
class Row:
    """A printed row with its cells in the order of the columns.

    Attributes:
        model: name of our model; empty if none stands in this row.
        is_quoted: whether the paper took the row from the literature or a released log.
        differences: what differs between our setting and the paper's, in words.
    """

    identity: RowIdentity
    cells: tuple[Cell, ...]
    model: str
    is_quoted: bool
    differences: tuple[str, ...]


@dataclass(frozen=True)
class Comparison:
    """A printed table beside our numbers."""

    name: str
    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def printed_values(self) -> list[PrintedValue]:
        """Every printed value, row by row."""
        return [c.printed for row in self.rows for c in row.cells if c.printed is not None]


def compare_with_print(table: PrintedTable, models: Sequence[Model]) -> Comparison:
    """A printed table beside the numbers of the models that stand in its rows."""
    columns = tuple(dict.fromkeys(make_column(value) for value in table.values))
    values = {(value.row, make_column(value)): value for value in table.values}
    rules = {row: find_rule(table.paper, table.table, row) for row in table.rows}
    chosen = choose_models(rules, models)
    rows = tuple(
        make_row(table, row, [values.get((row, column)) for column in columns], *chosen[row])
        if row in chosen
        else make_empty_row(row, [values.get((row, column)) for column in columns])
        for row in table.rows
    )
    return Comparison(table.name, table.title, columns, rows)


def make_column(value: PrintedValue) -> Column:
    """The column of a printed value."""
    is_mean = value.metric == "avg" and value.dataset.startswith("imagenet-")
    label = f"avg {value.dataset.removeprefix('imagenet-')}" if is_mean else value.metric
    return Column(value.metric, label, value.unit)


def make_empty_row(identity: RowIdentity, printed: Sequence[PrintedValue | None]) -> Row:
    """A row in which no model of ours stands."""
    is_quoted = any(value.is_quoted for value in printed if value is not None)
    return Row(identity, tuple(Cell(value, None) for value in printed), "", is_quoted, ())


def make_row(
    table: PrintedTable,
    identity: RowIdentity,
    printed: Sequence[PrintedValue | None],
    rule: MethodRule,
    model: Model,
) -> Row:
    """A row with the numbers of the model that stands in it; empty if none was measured."""
    row = make_empty_row(identity, printed)
    scores = [
        None if value is None else find_score(model, make_query(table, value, rule))
        for value in printed
    ]
    pairs = [
        (p, s) for p, s in zip(printed, scores, strict=True) if p is not None and s is not None
    ]
    if not pairs:
        return row
    cells = tuple(Cell(value, score) for value, score in zip(printed, scores, strict=True))
    differences = describe_differences(table, identity, model.setting, pairs)
    return replace(row, cells=cells, model=model.name, differences=differences)


def find_score(model: Model, query: ColumnQuery) -> Score | None:
    """A column's value for one model, measured or counted; None without one."""
    if query.metric in COUNTED:
        return count_training(model.setting, query.metric)
    return measure(model.measured, query)


def make_query(table: PrintedTable, value: PrintedValue, rule: MethodRule) -> ColumnQuery:
    """What a printed value asks to be measured."""
    radius = DAD_RADIUS if table.paper == "dad" else DEFAULT_RADIUS
    if table.paper == "derd" and value.dataset == "imagenet100":
        radius = DERD_IMAGENET_RADIUS
    return ColumnQuery(value.metric, value.dataset, radius, rule.epoch, value.is_quoted)


def choose_models(
    rules: Mapping[RowIdentity, MethodRule | None], models: Sequence[Model]
) -> dict[RowIdentity, tuple[MethodRule, Model]]:
    """The model that stands in each printed row, with the row's rule; without one, nothing.

    It has the row's method and data set, and a network of the row's family. Of several, the same
    network goes first, then the same teachers, then the objective's default options, then the first
    in the configuration. A model that has the networks of one row stands in no other row that asks
    for others.
    """
    fitting = {
        row: [m for m in models if rule.fits(m.setting, row) and is_alike(row, m.setting)]
        for row, rule in rules.items()
        if rule is not None
    }
    settled = [m for row, found in fitting.items() for m in found if is_same(row, m.setting)]
    chosen = {}
    for row, found in fitting.items():
        free = [m for m in found if is_same(row, m.setting) or not is_among(m, settled)]
        rule = rules[row]
        if free and rule is not None:
            ranks = [rank_by_likeness(row, m.setting) for m in free]
            chosen[row] = rule, free[ranks.index(min(ranks))]
    return chosen


def is_alike(row: RowIdentity, setting: Setting) -> bool:
    """Whether a model's network is of the family of the row's."""
    return is_family(row.student or row.teacher, setting.model)


def is_same(row: RowIdentity, setting: Setting) -> bool:
    """Whether a model has the row's networks, its own and its teachers'."""
    return rank_by_likeness(row, setting)[:2] == (False, False)


def is_among(model: Model, models: Sequence[Model]) -> bool:
    """Whether a model is one of these very models."""
    return any(model is other for other in models)


def rank_by_likeness(row: RowIdentity, setting: Setting) -> tuple[bool, bool, int]:
    """A sort key: networks and teachers that are not the row's, and options that are unusual."""
    has_network = is_network(row.student or row.teacher, setting.model)
    has_teachers = not row.student or has_printed_teachers(row.teacher, setting)
    return not has_network, not has_teachers, count_unusual_options(setting)


def has_printed_teachers(printed: str, setting: Setting) -> bool:
    """Whether a model has the printed teachers; any will do where none is printed."""
    wanted = list_printed_teachers(printed)
    if set(wanted) == {"teacher"} and len(setting.teachers) == 1:
        return all(is_teacher(wanted["teacher"], t) for t in setting.teachers.values())
    return all(
        role in setting.teachers and is_teacher(name, setting.teachers[role])
        for role, name in wanted.items()
    )


def is_teacher(printed: str, teacher: TeacherSetting) -> bool:
    """Whether one of our teachers is the printed one; after a plus stands how it was trained."""
    by_method = {"ViT-B + DAT": "dat", "RN50 + AugMix": ""}
    asked = by_method.get(printed, teacher.objective)
    return teacher.is_printed(printed) and teacher.objective == asked


def count_unusual_options(setting: Setting) -> int:
    """The number of the objective's options that differ from their default, but for its scale."""
    if not setting.objective:
        return 0
    defaults = get_defaults(load_plugin("objectives", setting.objective).Objective)
    names = set(setting.options) - set(SCALE_OPTIONS)
    return sum(setting.options[name] != defaults.get(name) for name in names)
