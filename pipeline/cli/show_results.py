"""The verb ``results``: the newest report's numbers, as a table or as data."""

import argparse
from pathlib import Path

from pipeline.config.reader import read_config
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.report.results import pivot
from pipeline.report.results.files import RESULTS_FILE
from pipeline.report.results.rows import format_csv, parse_csv
from pipeline.store.artefact import open_artefact


def run_verb(options: argparse.Namespace) -> None:
    """Print the table and the report's place, or the results in the format that is asked for."""
    folder = find_report(make_plan(read_config(*options.configfile)))
    if options.form is None and options.by is None:
        table = open_artefact(folder).get_verified_path("table.md").read_text()
        print(f"{table}\nReport: {folder / 'report.html'}")
        return
    by = options.by.split(",") if options.by else None
    print(format_results(read_records(folder), by, options.form or "markdown"))


def find_report(plan: Plan) -> Path:
    """The folder of a configuration's finished report.

    Raises:
        RetortError: the configuration has no report, or it is not made yet.
    """
    ref = plan.refs_by_name.get(("report", "report"))
    if ref is None:
        raise RetortError("report: the configuration has none; add 'report: {}' and 'retort run'")
    folder = plan.folder_path(ref)
    if not plan.is_complete(ref):
        raise RetortError(f"{folder}: is not made yet; run 'retort run'")
    return folder


def read_records(folder: Path) -> list[dict]:
    """The records of a finished report's ``results.csv``."""
    path = open_artefact(folder).get_verified_path(RESULTS_FILE)
    return list(parse_csv(path.read_text()))


def format_results(records: list[dict], by: list[str] | None, form: str) -> str:
    """Records in a format: as they are for csv and json without ``by``, else means over seeds."""
    if by is None and form in ("csv", "json"):
        chosen = records
    else:
        names = pivot.check_columns(by or list(pivot.DEFAULT_BY))
        cells = pivot.pivot(records, names)
        if form in ("markdown", "latex"):
            return pivot.format_wide_table(cells, names, form)
        chosen = pivot.make_long_records(cells, names)
    return format_csv(chosen).rstrip("\n") if form == "csv" else pivot.format_json(chosen)
