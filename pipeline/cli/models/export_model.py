"""The verb ``export``: a finished model in another tool's form."""

import argparse
from dataclasses import replace

from pipeline.cli.show_artefact import find_ref
from pipeline.cli.show_results import read_records
from pipeline.config.reader import read_config
from pipeline.export.finished_model import FinishedModel, open_finished_model
from pipeline.export.folder import export_model
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan


def run_verb(options: argparse.Namespace) -> None:
    """Write the form, and print how far its logits are from the model's."""
    plan = make_plan(read_config(*options.configfile))
    model = open_named_model(plan, options.name)
    model = replace(model, licence=options.license)
    difference = export_model(model, options.form, options.out)
    print(f"{options.out}: {model.name} as {options.form}")
    print(f"loaded back, its logits differ by {difference:.1e} at most")


def open_named_model(plan: Plan, word: str) -> FinishedModel:
    """The finished model that a word means, with its results if the report is made."""
    folder = plan.folder_path(find_ref(plan, word))
    return open_finished_model(folder, read_results(plan))


def read_results(plan: Plan) -> list[dict]:
    """The records of the configuration's finished report; empty without one."""
    ref = plan.refs_by_name.get(("report", "report"))
    if ref is None or not plan.is_complete(ref):
        return []
    return read_records(plan.folder_path(ref))
