"""The command line: one verb a stage, and a few that only look."""

import argparse
import logging
import os
import shutil
import sys
from types import ModuleType

from pipeline.cli.arguments import build_parser
from pipeline.config.specs import get_spec
from pipeline.core.devices.host_memory import keep_freed_memory
from pipeline.discovery import load_plugin, name_plugin_faults
from pipeline.errors import RetortError, explain_error
from pipeline.interrupts import exit_on_stop_signals
from pipeline.progress import report_silence
from pipeline.resources import count_gpus
from pipeline.store import logs
from pipeline.store.artefact import (
    MANIFEST_FILE,
    STAGES_BY_KIND,
    Job,
    read_job,
    write_json,
    write_manifest,
)
from pipeline.store.attempt_cost import record_attempt_cost
from pipeline.store.lease import hold_lease
from pipeline.training import gpu_locks, torchrun
from pipeline.upkeep.code_drift import check_code, use_job_plugins

NOTED_VERBS = ("plan", "run")  # which say what was found out about the configuration's data
# Stages of many like steps, in which keeping freed memory saves time and costs none
STAGES_OF_STEPS = ("train_teacher", "train_discretizer", "warm_generator", "distill", "evaluate")
INTERRUPTED_STATUS = 130  # as shells have it for Ctrl-C

log = logging.getLogger("retort")


def run_command() -> None:
    """The console script."""
    try:
        status = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except KeyboardInterrupt:
        status = INTERRUPTED_STATUS
    sys.exit(status)


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """The options of one verb; ``run`` keeps what it does not know in ``rest``, for Snakemake."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and options.verb != "run":
        parser.parse_args(arguments)
    options.rest = rest
    return options


def main(arguments: list[str]) -> int:
    """Run one verb; bad input prints one line and gives exit status 2."""
    options = parse_arguments(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.INFO)
    level = logging.INFO if options.verb in NOTED_VERBS else logging.WARNING
    logging.getLogger("retort.plan").setLevel(level)
    try:
        if options.verb in STAGES_BY_KIND.values():
            make_artefact(options)
        else:
            with report_silence(), name_plugin_faults():
                load_plugin(*options.module).run_verb(options)
    except Exception as error:
        explained = explain_error(error, str(getattr(options, "folder", "store")))
        if not explained:
            raise
        print(f"error: {explained}", file=sys.stderr)
        return 2
    return 0


def make_artefact(options: argparse.Namespace) -> None:
    """Run a stage on a folder unless its manifest is there already."""
    job = read_job(options.folder)
    prefix_log_lines(job.kind, job.name)
    check_verb(job, options)
    count = torchrun.count_processes(job.kind, job.spec, job.run)
    part = getattr(options, "shards", None) or "run"
    with (
        logs.capture_job_log(job.folder, part),
        report_silence("start"),
        exit_on_stop_signals(),
        gpu_locks.hold_gpus(count_gpus(job.kind, job.spec, job.run, count)),
        name_plugin_faults(),
    ):
        use_job_plugins(job)
        check_code(job)
        make_in_process(job, options)


def make_in_process(job: Job, options: argparse.Namespace) -> None:
    """Run the stage, its log kept and its GPUs this process's own."""
    limit_threads()
    check_device(job)
    if options.verb in STAGES_OF_STEPS:
        keep_freed_memory()
    from pipeline.training.numeric_modes import set_numeric_modes  # loads torch

    set_numeric_modes(job.spec.get("recipe") or {})
    stage = load_plugin("stages", options.verb)
    if getattr(options, "shards", None):
        shards = parse_shard_range(options.shards)
        with record_attempt_cost(job, options.shards):
            stage.run_group(job, shards)
        write_json(job.folder / "groups" / f"{shards.start}-{shards.stop}.json", {})
        return
    if torchrun.get_rank_and_world_size(job)[1] > 1:
        make_rank_part(job, stage)
        return
    with hold_lease(job.folder, job.folder / MANIFEST_FILE) as needed:
        if not needed:
            log.info("already made")
        else:
            with record_attempt_cost(job, "run"):
                if (count := torchrun.count_processes(job.kind, job.spec, job.run)) > 1:
                    torchrun.run_processes(job, options.verb, count)
                if not (job.folder / MANIFEST_FILE).exists():
                    write_manifest(job, stage.run(job))
        shutil.rmtree(job.state_folder)


def make_rank_part(job: Job, stage: ModuleType) -> None:
    """One process's part of an artefact; that of rank 0 finishes what is trained."""
    torchrun.set_up_rank_process()
    if job.kind == "evaluation":
        stage.run_part(job, *torchrun.get_rank_and_world_size(job))
        return
    from pipeline.core import collectives

    collectives.init_process_group(get_spec(job).device)
    write_manifest(job, stage.run(job))


def check_verb(job: Job, options: argparse.Namespace) -> None:
    """Refuse a stage that does not make this kind: the key would not be its own."""
    if STAGES_BY_KIND.get(job.kind) != options.verb:
        right = STAGES_BY_KIND.get(job.kind, "none")
        raise RetortError(
            f"{options.folder}: holds a {job.kind}; the stage that makes it is {right}"
        )


def check_device(job: Job) -> None:
    """Log which device the job computes on; refuse a GPU job where torch sees no GPU."""
    import torch

    if job.spec.get("device") != "cuda":
        log.info("device cpu, threads: %d", torch.get_num_threads())
        return
    wanted, seen = torchrun.count_processes(job.kind, job.spec, job.run), torch.cuda.device_count()
    if not seen:
        raise RetortError(
            f"device: {job.kind} {job.name} wants cuda, torch sees none; set it to cpu"
        )
    if seen < wanted:
        raise RetortError(
            f"gpus: {job.kind} {job.name} wants {wanted} GPUs, torch sees {seen}; set it to {seen}"
        )
    log.info("device cuda: %s", torch.cuda.get_device_name())


def parse_shard_range(text: str) -> range:
    """`2:4` as a range."""
    first, _, stop = text.partition(":")
    if not (first.isdecimal() and stop.isdecimal()):
        raise RetortError(f"--shards {text}: give A:B, such as 0:4")
    return range(int(first), int(stop))


def prefix_log_lines(kind: str, name: str) -> None:
    """Put the artefact's name before every line, since jobs share a terminal."""
    form = f"%(asctime)s {kind} {name}: %(message)s"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(form, datefmt="%H:%M:%S"))


def limit_threads() -> None:
    """Keep torch to the threads that the workflow gave the job; without any, to one."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
