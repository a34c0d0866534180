"""The verb ``show``: one artefact's spec, inputs, facts, files, cost and log."""

import argparse
from pathlib import Path

import yaml

from pipeline.cli.find_planned import find_planned_ref, suggest_names
from pipeline.config.reader import read_config
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.store.artefact import JOB_FILE, MANIFEST_FILE, open_artefact, read_json
from pipeline.store.attempt_cost import sum_attempt_costs
from pipeline.upkeep.listing import find_artefacts, format_bytes, format_table
from pipeline.upkeep.status import inspect_state

LOG_LINES = 5  # of each log, from its end


def run_verb(options: argparse.Namespace) -> None:
    """Print what is known of one artefact, planned or in the store."""
    plan = make_plan(read_config(*options.configfile))
    print(format_artefact(plan, find_ref(plan, options.name)))


def find_ref(plan: Plan, word: str) -> str:
    """The artefact that a word means: of the configuration, else of its store.

    Raises:
        RetortError: it means none, or several.
    """
    if ref := find_planned_ref(plan, word):
        return ref
    try:
        return find_artefacts(plan.store, word)[0]
    except RetortError as error:
        raise RetortError(f"{error}{suggest_names(plan, word)}") from error


def format_artefact(plan: Plan, ref: str) -> str:
    """Everything on an artefact, in sections."""
    folder = plan.folder_path(ref)
    job = read_description(plan, ref)
    remark = inspect_state(plan, ref)[0] if ref in plan.artefacts else "not of this configuration"
    parts = [
        f"{job['kind']} {job['name']} ({job['key']}): {remark}",
        f"folder: {folder}",
        format_section("spec", job["spec"]),
        format_section("inputs", dict(sorted(job["inputs"].items()))),
        format_section("run", {name: value for name, value in job["run"].items() if value}),
        format_section("code", {m.removeprefix("pipeline."): n for m, n in job["code"].items()}),
    ]
    if (folder / MANIFEST_FILE).exists():
        manifest = open_artefact(folder).manifest
        files = [(name, format_bytes(about["bytes"])) for name, about in manifest.files.items()]
        parts += [format_section("facts", manifest.facts)]
        parts += ["files:", indent(format_table(files))] if files else []
    parts += [format_attempts(folder)]
    return "\n".join(filter(None, parts))


def read_description(plan: Plan, ref: str) -> dict:
    """An artefact's job as ``spec.json`` has it: the plan's, else that of the store."""
    if ref in plan.artefacts:
        return plan.describe_job(ref)
    return read_json(plan.folder_path(ref) / JOB_FILE, "delete its folder")


def format_section(title: str, values: dict) -> str:
    """A titled mapping as indented YAML; empty without values."""
    if not values:
        return ""
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=96)
    return f"{title}:\n{indent(text.rstrip())}"


def format_attempts(folder: Path) -> str:
    """Seconds and memory of all attempts, and the end of each log; empty before the first."""
    logs = sorted((folder / "attempts").glob("*.log"))
    if not logs:
        return ""
    cost = sum_attempt_costs(folder)
    lines = [f"took: {cost['seconds']:.0f} s"]
    for path in logs:
        last = path.read_text(errors="replace").splitlines()[-LOG_LINES:]
        lines += [f"log {path}:", indent("\n".join(last))]
    return "\n".join(lines)


def indent(text: str) -> str:
    """Text with two spaces before each line."""
    return "\n".join(f"  {line}" for line in text.splitlines())
