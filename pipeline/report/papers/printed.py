"""The values that the papers print, read from the CSV files beside this module.

A file is a table, such as ``adaad_2.csv``, and a line of it is one printed value. Its columns:

    paper, table, dataset, teacher, student, method, metric: where the value stands in print, in
        the paper's words; ``dataset`` is what the value was measured on, ``metric`` the column.
    value: as printed; empty if none is legible.
    unit: percent, mce (mean corruption error), ratio or count.
    flag: empty, or why the value is not to be relied on; see `FLAGS`.
    quoted: yes if the paper took the value from the literature or from a released log.
    note: what else there is to say.
"""

import csv
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pipeline.config.paper_tables import PAPER_TABLES

REVISION = 2  # of the CSV files too

FLAGS = {
    "wrong": "evidently wrong in print",
    "doubtful": "doubtful",
    "inconsistent": "inconsistent with other values in print",
    "assigned": "not clear in print to which cell it belongs",
    "missing": "not legible or not printed",
}
PAPER_TITLES = {"adaad": "AdaAD", "dad": "DAD", "darwin": "DARWIN", "derd": "DERD"}


@dataclass(frozen=True)
class RowIdentity:
    """A printed row: the data set that its models learn to classify, and the paper's names.

    A row without a student is about the teacher itself.
    """

    dataset: str
    teacher: str
    student: str
    method: str


@dataclass(frozen=True)
class PrintedValue:
    """One printed value; ``text`` is as printed, ``value`` None if there is none."""

    row: RowIdentity
    dataset: str
    metric: str
    text: str
    value: float | None
    unit: str
    flag: str
    is_quoted: bool
    note: str


@dataclass(frozen=True)
class PrintedTable:
    """A printed table, its values in the order of the file."""

    paper: str
    table: str
    values: tuple[PrintedValue, ...]

    @property
    def name(self) -> str:
        """Its name in the configuration: ``adaad.2``."""
        return f"{self.paper}.{self.table}"

    @property
    def title(self) -> str:
        """Its heading: ``AdaAD, Table 2``."""
        what = f"Table {self.table}" if self.table.isdigit() else f"{self.table} study"
        return f"{PAPER_TITLES[self.paper]}, {what}"

    @property
    def rows(self) -> tuple[RowIdentity, ...]:
        """Its rows in order."""
        return tuple(dict.fromkeys(value.row for value in self.values))


@cache
def read_printed_table(name: str) -> PrintedTable:
    """The printed table of a name such as ``adaad.2``."""
    paper, _, table = name.partition(".")
    path = Path(__file__).with_name(f"{PAPER_TABLES[name]}.csv")
    with path.open(newline="", encoding="utf-8") as file:
        return PrintedTable(paper, table, tuple(map(parse_value, csv.DictReader(file))))


def parse_value(line: dict[str, str]) -> PrintedValue:
    """The printed value of one line of a file."""
    # DAD's columns are test sets of one network: all its rows are models of ImageNet.
    dataset = "imagenet" if line["paper"] == "dad" else line["dataset"]
    return PrintedValue(
        row=RowIdentity(dataset, line["teacher"], line["student"], line["method"]),
        dataset=line["dataset"],
        metric=line["metric"],
        text=line["value"],
        value=float(line["value"]) if line["value"] else None,
        unit=line["unit"],
        flag=line["flag"],
        is_quoted=line["quoted"] == "yes",
        note=line["note"],
    )
