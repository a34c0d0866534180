"""Retort: robust distillation as a graph of cached artefacts. `snakemake --cores all` makes it."""

import os
import sys

sys.path.insert(0, workflow.basedir)

from pathlib import Path

from pipeline.training.torchrun import count_processes
from pipeline.resources import count_gpus, resolve_resources

# A job on a cluster parses this file again: it must not look at the configuration, which may have
# been edited since. It reads its folder's spec.json instead, and imports next to nothing.
PLAN = None
RUN = []  # what there was when it started

if workflow.is_main_process:
    from pipeline.errors import RetortError
    from pipeline.interrupts import WORKFLOW_VARIABLE, pass_on_stop_signals
    from pipeline.training.gpu_locks import list_gpus
    from pipeline.planning.plan import write_job_files
    from pipeline.planning.graph import make_plan_from_files
    from pipeline.upkeep.run_summary import PlanRun

    # The files are read here once more, and strictly: Snakemake knows no lines, and of a key that
    # is there twice it drops one. Values given with --config win over all files.
    files = workflow.overwrite_configfiles or [Path("config.yaml")]
    try:
        PLAN = make_plan_from_files(
            *(f.relative_to(Path.cwd()) if f.is_relative_to(Path.cwd()) else f for f in files),
            given=workflow.config_settings.config,
        )
    except RetortError as error:
        sys.exit(f"error: {error}")
    os.environ["RETORT_STORE"] = str(PLAN.store)
    os.environ[WORKFLOW_VARIABLE] = str(os.getpid())

STORE = os.environ["RETORT_STORE"]

# Jobs on this machine take turns at its GPUs, unless `--resources gpu=N` says otherwise.
if workflow.is_main_process and workflow.local_exec and "gpu" not in workflow.global_resources:
    if found := list_gpus():
        workflow.register_resource("gpu", len(found))


include: "rules/common.smk"
include: "rules/dataset.smk"
include: "rules/teacher.smk"
include: "rules/discretizer.smk"
include: "rules/bank.smk"
include: "rules/generator.smk"
include: "rules/student.smk"
include: "rules/evaluation.smk"
include: "rules/report.smk"


onstart:
    try:
        write_job_files(PLAN)
    except RetortError as error:
        sys.exit(f"error: {error}")
    RUN.append(PlanRun(PLAN))
    pass_on_stop_signals()


def show_summary():
    """Write the run's summary to the console and to Snakemake's log."""
    for run in RUN:
        logger.info(run.format_summary(), extra={"is_summary": True})


onsuccess:
    show_summary()


onerror:
    show_summary()


rule all:
    input:
        PLAN.list_targets() if PLAN else [],
    default_target: True
