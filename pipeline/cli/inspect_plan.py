"""The verb ``plan``: what a configuration stands for, without running it."""

import argparse

from pipeline.config.reader import Config, read_config
from pipeline.config.sweep import list_sweeps
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan, write_job_files
from pipeline.upkeep.listing import format_table


def run_verb(options: argparse.Namespace) -> None:
    """Run the verb ``plan``."""
    config = read_config(*options.configfile)
    plan = make_plan(config)
    if options.write:
        write_job_files(plan)
    print("\n".join((format_plan(plan), *format_sweeps(config))))


def format_plan(plan: Plan) -> str:
    """One line an artefact: kind, names, key, made or missing, what it is made from."""
    labels: dict[str, list[str]] = {}
    for (_, name), ref in plan.refs_by_name.items():
        labels.setdefault(ref, []).append(name)
    lines = [("kind", "name", "key", "state", "made from")]
    for ref, entry in plan.artefacts.items():
        sources = sorted({e.name for e in entry.inputs.values()})
        shown = ", ".join(sources) if len(sources) < 6 else f"{len(sources)} artefacts"
        state = "made" if plan.is_complete(ref) else "missing"
        lines.append((entry.kind, " = ".join(labels[ref]), entry.key, state, shown))
    return format_table(lines)


def format_sweeps(config: Config) -> list[str]:
    """One line a sweep: how many students its grids make, with how many seeds, and which."""
    lines = []
    for name, students in list_sweeps(config.source.values.get("students") or {}).items():
        seeds = sum(len(config.students[student].seeds or (config.seed,)) for student in students)
        artefacts = f", {seeds} with their seeds" if seeds > len(students) else ""
        shown = ", ".join(students[:4]) + (", …" if len(students) > 4 else "")
        lines.append(f"sweep {name}: {len(students)} students{artefacts}: {shown}")
    return lines
