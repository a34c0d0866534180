"""Verbs that look at a plan without running it."""

import argparse

from pipeline.config.reader import read
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan, write_orders
from pipeline.upkeep.listing import columns


def show(options: argparse.Namespace) -> None:
    """Run the verb ``plan`` or ``results``."""
    plan = make_plan(read(options.configfile))
    if options.verb == "plan":
        if options.write:
            write_orders(plan)
        print(table(plan))
    else:
        print(results(plan))


def table(plan: Plan) -> str:
    """One line an artefact: kind, names, key, made or missing, what it is made from."""
    labels: dict[str, list[str]] = {}
    for (_, name), ref in plan.names.items():
        labels.setdefault(ref, []).append(name)
    lines = [("kind", "name", "key", "state", "made from")]
    for ref, entry in plan.entries.items():
        sources = sorted({e.name for e in entry.inputs.values()})
        shown = ", ".join(sources) if len(sources) < 6 else f"{len(sources)} artefacts"
        state = "made" if plan.made(ref) else "missing"
        lines.append((entry.kind, " = ".join(labels[ref]), entry.key, state, shown))
    return columns(lines)


def results(plan: Plan) -> str:
    """The report's main table and where the report lies.

    Raises:
        RetortError: the configuration has no report, or it is not made yet.
    """
    ref = plan.names.get(("report", "report"))
    if ref is None:
        raise RetortError("report: the configuration has none; add 'report: {}' and run snakemake")
    folder = plan.folder(ref)
    if not plan.made(ref):
        raise RetortError(f"{folder}: is not made yet; run snakemake --cores all")
    return f"{(folder / 'table.md').read_text()}\nReport: {folder / 'report.html'}"
