"""A whole experiment made in this process, stage by stage, without Snakemake."""

from importlib import import_module

from pipeline.planning.plan import Plan, write_orders
from pipeline.store.artifact import STAGES, Artifact, finish, open_artifact, read_job


def made(plan: Plan) -> dict[str, Artifact]:
    """Every artefact of a plan, inputs first, by kind/name."""
    write_orders(plan)
    found = {}
    for ref, entry in plan.entries.items():
        job = read_job(plan.folder(ref))
        finish(job, import_module(f"pipeline.stages.{STAGES[entry.kind]}").run(job))
        found[f"{entry.kind}/{entry.name}"] = open_artifact(job.folder)
    return found
