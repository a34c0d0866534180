"""The report's section on the papers' tables, and its files."""

from collections.abc import Sequence
from pathlib import Path

from pipeline.report.outcomes import Study
from pipeline.report.papers.comparison import Comparison, compare_with_print
from pipeline.report.papers.models import read_models
from pipeline.report.papers.printed import read_printed_table
from pipeline.report.papers.render import FORMATS, format_markdown
from pipeline.store.artefact import write_text

REVISION = 1

TABLES_FOLDER = "tables"


def add_tables(folder: Path, study: Study, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Write the asked tables into a report's folder; the section's Markdown and the files' names.

    Both are empty if no table is asked for.
    """
    comparisons = compare_tables(study, names) if names else []
    return format_section(comparisons), write_tables(folder, comparisons)


def compare_tables(study: Study, names: Sequence[str]) -> list[Comparison]:
    """The printed tables of these names beside a study's numbers."""
    models = read_models(study)
    return [compare_with_print(read_printed_table(name), models) for name in names]


def write_tables(folder: Path, comparisons: Sequence[Comparison]) -> list[str]:
    """Write each comparison in every format, and return the files' names."""
    names = []
    for comparison in comparisons:
        for end, format_text in FORMATS.items():
            names.append(f"{TABLES_FOLDER}/{comparison.name}.{end}")
            text = format_text(comparison)
            write_text(folder / names[-1], text if text.endswith("\n") else f"{text}\n")
    return names


def format_section(comparisons: Sequence[Comparison]) -> list[str]:
    """The section's Markdown; empty if no table is asked for."""
    if not comparisons:
        return []
    parts = [(f"### {c.title}", format_markdown(c)) for c in comparisons]
    return ["## Beside the papers", *(text for part in parts for text in part)]
