"""A comparison as Markdown, HTML, CSV and LaTeX."""

import csv
import html
import io
from collections.abc import Callable, Sequence

from tabulate import tabulate

from pipeline.report.attack_labels import ATTACK_NAMES
from pipeline.report.papers.comparison import Cell, Column, Comparison, Row
from pipeline.report.papers.printed import FLAGS, PrintedValue
from pipeline.report.tables import MISSING_CELL, escape_markdown, format_caption

REVISION = 3

FLAG_MARK, QUOTE_MARK = "†", "‡"
ID_HEADINGS = ("data set", "teacher", "student", "method")
COLUMN_HEADINGS = {
    "fgsm": "FGSM",
    "pgd": "PGD",
    "pgd10": "PGD-10",
    "pgd20": "PGD-20",
    "aa": "AutoAttack",
    "pgd_s": "PGD_S",
    "pgd_t": "PGD_T",
    "cw_l2": "CW (L2)",
    "cw_linf": "CW (Linf)",
    "jsma": ATTACK_NAMES["jsma_true"],
    "square": "Square",
    "rn34": "ResNet-34",
    "rn50": "ResNet-50",
    "vgg16": "VGG-16",
    "imagenet": "ImageNet",
    "v2": "V2",
    "r": "R",
    "a": "A",
    "sketch": "Sketch",
    "stylized": "Stylized",
    "c_mce": "C (mCE)",
    "attack_steps": "steps",
}
TABLE_REMARKS = {  # table -> what holds of a column as a whole
    "adaad.4": (
        "JSMA aims at the true label here, as the paper's does (attack jsma_true): what is right "
        "stays so, so it is no attack. jsma aims at a random wrong class and stands in no column."
    ),
    "dad.7": (
        "Both columns are counted, not timed. Steps are those of the attack in training, for DAD "
        "of that on its bank's samples, made once. The budget is the student's passes over those "
        "of standard training: no teacher's, and none of the VQGAN's, which DAT runs in every step."
    ),
}
DIGITS = {"percent": 1, "mce": 1, "ratio": 3, "count": 0}  # of our values, by unit
CSV_HEADINGS = (
    *("paper_table", "dataset", "teacher", "student", "method", "metric", "unit", "model", "ours"),
    *("low", "high", "n", "paper", "difference", "flag", "quoted", "setting", "note"),
)
LATEX_MARKS = {  # characters that LaTeX does not know
    MISSING_CELL: "--",
    "±": r"$\pm$",
    FLAG_MARK: r"$\dagger$",
    QUOTE_MARK: r"$\ddagger$",
}


def format_heading(column: Column) -> str:
    """A column's heading: ``PGD-10 from VGG-16``."""
    attack, _, surrogate = column.label.partition("_transfer_")
    name = COLUMN_HEADINGS.get(attack, attack)
    return f"{name} from {COLUMN_HEADINGS[surrogate]}" if surrogate else name


def format_cell(cell: Cell, unit: str) -> str:
    """Ours, the printed value and the difference: ``40.7 [37.7, 43.8] / 85.2 / -44.5``.

    A single dash stands where neither is known.
    """
    if cell.printed is None and cell.ours is None:
        return MISSING_CELL
    parts = [format_ours(cell, unit), format_printed(cell.printed)]
    if cell.difference is not None:
        parts.append(f"{cell.difference:+.{DIGITS[unit]}f}")
    return " / ".join(parts)


def format_ours(cell: Cell, unit: str) -> str:
    """Our value: `62.5 ±3.1` for several seeds, `62.5 [60.1, 64.8]` for one; a dash for none."""
    if cell.ours is None:
        return MISSING_CELL
    value, digits = cell.ours, DIGITS[unit]
    if value.low is None or value.high is None:
        return f"{value.value:.{digits}f}"
    if value.seed_count > 1:
        return f"{value.value:.{digits}f} ±{(value.high - value.low) / 2:.{digits}f}"
    return f"{value.value:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]"


def format_printed(printed: PrintedValue | None) -> str:
    """The printed value as it is printed, with its marks; a dash if there is none."""
    if printed is None:
        return MISSING_CELL
    marks = (FLAG_MARK if printed.flag else "") + (QUOTE_MARK if printed.is_quoted else "")
    return (printed.text or MISSING_CELL) + marks


def list_cells(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text; the data set is left out where all rows have the same."""
    several = len({row.identity.dataset for row in comparison.rows}) > 1
    start = 0 if several else 1
    headings = [*ID_HEADINGS[start:], "ours", *map(format_heading, comparison.columns)]
    rows = []
    for row in comparison.rows:
        names = [n or MISSING_CELL for n in list_names(row)[start:]]
        cells = [
            format_cell(cell, column.unit)
            for cell, column in zip(row.cells, comparison.columns, strict=True)
        ]
        rows.append([*names, row.model or MISSING_CELL, *cells])
    return headings, rows


def list_names(row: Row) -> list[str]:
    """A row's names as printed: data set, teacher, student, method."""
    known = row.identity
    return [known.dataset, known.teacher, known.student, known.method]


def list_remarks(comparison: Comparison) -> list[str]:
    """The table's own line, one for each row in another setting, one for each flagged value."""
    found = [TABLE_REMARKS[comparison.name]] if comparison.name in TABLE_REMARKS else []
    for row in comparison.rows:
        if row.differences:
            other = "; ".join(row.differences)
            found.append(f"{name_row(row)}: ours ({row.model}) is another setting: {other}.")
    for row in comparison.rows:
        flagged = [cell.printed for cell in row.cells if cell.printed and cell.printed.flag]
        for flag in dict.fromkeys(value.flag for value in flagged):
            metrics = ", ".join(value.metric for value in flagged if value.flag == flag)
            found.append(f"{FLAG_MARK} {name_row(row)}, {metrics}: {FLAGS[flag]}.")
    return found


def name_row(row: Row) -> str:
    """A row in words: ``AdaAD, RN-18 from WRN-34-20, cifar10``."""
    known = row.identity
    networks = [known.student or known.teacher]
    if known.student and known.teacher:
        networks = [f"{known.student} from {known.teacher}"]
    return ", ".join([known.method, *networks, known.dataset])


def describe_cells(comparison: Comparison) -> str:
    """What the cells say."""
    text = (
        "Each cell: ours with its 95 % interval (±: over seeds; [ ]: over test images) / the "
        f"paper's / ours less the paper's. {MISSING_CELL}: not run, or not printed."
    )
    if any(value.flag for value in comparison.printed_values):
        text += f" {FLAG_MARK}: the printed value is not to be relied on."
    if any(value.is_quoted for value in comparison.printed_values):
        text += f" {QUOTE_MARK}: the paper quotes it from the literature or a released log."
    if any(row.differences for row in comparison.rows):
        text += " Where ours is another setting, as listed, a difference is no failure to repeat."
    return text


def format_markdown(comparison: Comparison) -> str:
    """The comparison as Markdown, without a heading."""
    headings, rows = list_cells(comparison)
    escaped = [[escape_markdown(cell) for cell in row] for row in rows]
    table = tabulate(escaped, list(map(escape_markdown, headings)), "pipe", disable_numparse=True)
    remarks = "\n".join(f"- {escape_markdown(remark)}" for remark in list_remarks(comparison))
    return "\n\n".join(
        part for part in (table, format_caption(describe_cells(comparison)), remarks) if part
    )


def format_html(comparison: Comparison) -> str:
    """The comparison as HTML: a table, a caption and a list."""
    headings, rows = list_cells(comparison)
    table = tabulate(rows, headings, "html", disable_numparse=True)
    remarks = "\n".join(f"<li>{html.escape(text)}</li>" for text in list_remarks(comparison))
    parts = [f"<h3>{html.escape(comparison.title)}</h3>", table]
    parts.append(f"<p><em>{html.escape(describe_cells(comparison))}</em></p>")
    return "\n".join([*parts, *([f"<ul>\n{remarks}\n</ul>"] if remarks else [])]) + "\n"


def format_latex(comparison: Comparison) -> str:
    """The comparison as a LaTeX table for the package booktabs, with the remarks as comments."""
    headings, rows = list_cells(comparison)
    table = tabulate(rows, headings, "latex_booktabs", disable_numparse=True)
    for mark, text in LATEX_MARKS.items():
        table = table.replace(mark, text)
    lines = [comparison.title, describe_cells(comparison), *list_remarks(comparison)]
    return "\n".join([*(f"% {line}" for line in lines), table]) + "\n"


def format_csv(comparison: Comparison) -> str:
    """The comparison as CSV: one line for each printed value, empty where nothing is known."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(CSV_HEADINGS)
    for row in comparison.rows:
        for cell, column in zip(row.cells, comparison.columns, strict=True):
            if cell.printed is not None:
                writer.writerow(list_csv_fields(comparison.name, row, cell, cell.printed, column))
    return file.getvalue()


def list_csv_fields(
    name: str, row: Row, cell: Cell, printed: PrintedValue, column: Column
) -> Sequence[object]:
    """The fields of one line of the CSV."""
    ours, names = cell.ours, list_names(row)
    numbers = [None] * 4 if ours is None else [ours.value, ours.low, ours.high, ours.image_count]
    rounded = [round(n, 6) if isinstance(n, float) else n for n in (*numbers, cell.difference)]
    return [
        *(name, printed.dataset, *names[1:], column.metric, column.unit, row.model),
        *(*rounded[:4], printed.text, rounded[4], printed.flag),
        *("yes" if printed.is_quoted else "", "; ".join(row.differences), printed.note),
    ]


FORMATS: dict[str, Callable[[Comparison], str]] = {  # file name's end -> its text
    "md": format_markdown,
    "html": format_html,
    "csv": format_csv,
    "tex": format_latex,
}
