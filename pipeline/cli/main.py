"""The command line: one verb a stage, and a few that only look."""

import argparse
import errno
import logging
import os
import shutil
import sys
from pathlib import Path
from types import ModuleType

from safetensors import SafetensorError

from pipeline.cli.arguments import build_parser
from pipeline.config.specs import get_spec
from pipeline.core import collectives
from pipeline.discovery import load_plugin
from pipeline.errors import (
    RetortError,
    describe_unreadable,
    find_denied_place,
    is_disk_full,
    is_out_of_memory,
)
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
from pipeline.upkeep.code_drift import check_code

DENIED_ERRNOS = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}

log = logging.getLogger("retort")


def main(arguments: list[str]) -> int:
    """Run one verb; bad input prints one line and gives exit status 2."""
    options = build_parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        if options.verb in STAGES_BY_KIND.values():
            make_artefact(options)
        else:
            load_plugin(*options.module).run_verb(options)
    except RetortError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if is_disk_full(error):
            return report_no_room(options, error.strerror)
        if error.errno not in DENIED_ERRNOS:
            raise
        print(f"error: {describe_denial(error)}", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        return report_no_room(
            options, "out of memory", "give its rule more (mem_mb) or lower its batch"
        )
    except SafetensorError as error:
        if "I/O error" not in str(error):
            raise
        return report_no_room(options, str(error))
    return 0


def describe_denial(error: OSError) -> str:
    """The line on a file that may not be read or written, with the remedy for the one or other."""
    path = Path(error.filename) if error.filename else None
    if path and isinstance(error, PermissionError) and find_denied_place(path):
        return describe_unreadable(path)
    return f"{error.filename}: {error.strerror}; make it writable"


def report_no_room(
    options: argparse.Namespace, problem: str, remedy: str = "free some space"
) -> int:
    """Say that a file or an array found no room; what was whole before is kept."""
    where = getattr(options, "folder", "store")
    print(f"error: {where}: {problem}; {remedy} and run again", file=sys.stderr)
    return 2


def make_artefact(options: argparse.Namespace) -> None:
    """Run a stage on a folder unless its manifest is there already."""
    job = read_job(options.folder)
    prefix_log_lines(job.kind, job.name)
    check_verb(job, options)
    check_code(job)
    count = torchrun.count_processes(job.kind, job.spec, job.run)
    part = getattr(options, "shards", None) or "run"
    with (
        logs.capture_job_log(job.folder, part),
        gpu_locks.hold_gpus(count_gpus(job.kind, job.spec, job.run, count)),
    ):
        make_in_process(job, options)


def make_in_process(job: Job, options: argparse.Namespace) -> None:
    """Run the stage, its log kept and its GPUs this process's own."""
    limit_threads()
    check_device(job)
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
    """Refuse a GPU job where torch sees no GPU."""
    import torch

    if job.spec.get("device") != "cuda":
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
