"""A whole experiment made in this process, stage by stage, without Snakemake."""

from importlib import import_module

from pipeline.planning.plan import Plan, write_job_files
from pipeline.store.artefact import (
    STAGES_BY_KIND,
    Artefact,
    open_artefact,
    read_job,
    write_manifest,
)


def made(plan: Plan) -> dict[str, Artefact]:
    """Every artefact of a plan, inputs first, by kind/name."""
    write_job_files(plan)
    found = {}
    for ref, entry in plan.artefacts.items():
        job = read_job(plan.folder_path(ref))
        write_manifest(job, import_module(f"pipeline.stages.{STAGES_BY_KIND[entry.kind]}").run(job))
        found[f"{entry.kind}/{entry.name}"] = open_artefact(job.folder)
    return found
