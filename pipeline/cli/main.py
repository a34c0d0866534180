"""The command line: one verb a stage, and a few that only look."""

import argparse
import errno
import logging
import os
import shutil
import sys
from types import ModuleType

from safetensors import SafetensorError

from pipeline.cli.arguments import parser
from pipeline.config.specs import spec_of
from pipeline.core import collectives
from pipeline.discovery import plugin
from pipeline.errors import RetortError, no_memory_left, no_room_left
from pipeline.resources import gpus
from pipeline.store import logs
from pipeline.store.artifact import MANIFEST, STAGES, Job, finish, read_job, write_json
from pipeline.store.attempt_cost import timed
from pipeline.store.lease import leased
from pipeline.training import gpu_locks, torchrun
from pipeline.upkeep.code_drift import check_code

DENIED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}

log = logging.getLogger("retort")


def main(arguments: list[str]) -> int:
    """Run one verb; bad input prints one line and gives exit status 2."""
    options = parser().parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
    log.setLevel(logging.INFO)
    try:
        if options.verb in STAGES.values():
            make_artifact(options)
        else:
            plugin(*options.module).show(options)
    except RetortError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if no_room_left(error):
            return no_room(options, error.strerror)
        if error.errno not in DENIED:
            raise
        print(f"error: {error.filename}: {error.strerror}; make it writable", file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not no_memory_left(error):
            raise
        return no_room(options, "out of memory", "give its rule more (mem_mb) or lower its batch")
    except SafetensorError as error:
        if "I/O error" not in str(error):
            raise
        return no_room(options, str(error))
    return 0


def no_room(options: argparse.Namespace, why: str, remedy: str = "free some space") -> int:
    """Say that a file or an array found no room; what was whole before is kept."""
    where = getattr(options, "folder", "store")
    print(f"error: {where}: {why}; {remedy} and run again", file=sys.stderr)
    return 2


def make_artifact(options: argparse.Namespace) -> None:
    """Run a stage on a folder unless its manifest is there already."""
    job = read_job(options.folder)
    prefix(job.kind, job.name)
    check_verb(job, options)
    check_code(job)
    count = torchrun.processes(job.kind, job.spec, job.run)
    part = getattr(options, "shards", None) or "run"
    with logs.kept(job.folder, part), gpu_locks.held(gpus(job.kind, job.spec, job.run, count)):
        make_here(job, options)


def make_here(job: Job, options: argparse.Namespace) -> None:
    """Run the stage, its log kept and its GPUs this process's own."""
    one_thread()
    check_device(job)
    stage = plugin("stages", options.verb)
    if getattr(options, "shards", None):
        shards = shard_range(options.shards)
        with timed(job, options.shards):
            stage.run_group(job, shards)
        write_json(job.folder / "groups" / f"{shards.start}-{shards.stop}.json", {})
        return
    if torchrun.place_among(job)[1] > 1:
        make_part(job, stage)
        return
    with leased(job.folder, job.folder / MANIFEST) as needed:
        if not needed:
            log.info("already made")
        else:
            with timed(job, "run"):
                if (count := torchrun.processes(job.kind, job.spec, job.run)) > 1:
                    torchrun.start(job, options.verb, count)
                if not (job.folder / MANIFEST).exists():
                    finish(job, stage.run(job))
        shutil.rmtree(job.state)


def make_part(job: Job, stage: ModuleType) -> None:
    """One process's part of an artefact; that of rank 0 finishes what is trained."""
    torchrun.follow()
    if job.kind == "evaluation":
        stage.run_part(job, *torchrun.place_among(job))
        return
    collectives.join(spec_of(job).device)
    finish(job, stage.run(job))


def check_verb(job: Job, options: argparse.Namespace) -> None:
    """Refuse a stage that does not make this kind: the key would not be its own."""
    if STAGES.get(job.kind) != options.verb:
        right = STAGES.get(job.kind, "none")
        raise RetortError(
            f"{options.folder}: holds a {job.kind}; the stage that makes it is {right}"
        )


def check_device(job: Job) -> None:
    """Refuse a GPU job where torch sees no GPU."""
    import torch

    if job.spec.get("device") != "cuda":
        return
    wanted, seen = torchrun.processes(job.kind, job.spec, job.run), torch.cuda.device_count()
    if not seen:
        raise RetortError(
            f"device: {job.kind} {job.name} wants cuda, torch sees none; set it to cpu"
        )
    if seen < wanted:
        raise RetortError(
            f"gpus: {job.kind} {job.name} wants {wanted} GPUs, torch sees {seen}; set it to {seen}"
        )


def shard_range(text: str) -> range:
    """`2:4` as a range."""
    first, _, stop = text.partition(":")
    if not (first.isdecimal() and stop.isdecimal()):
        raise RetortError(f"--shards {text}: give A:B, such as 0:4")
    return range(int(first), int(stop))


def prefix(kind: str, name: str) -> None:
    """Put the artefact's name before every line, since jobs share a terminal."""
    form = f"%(asctime)s {kind} {name}: %(message)s"
    for handler in logging.getLogger().handlers:
        handler.setFormatter(logging.Formatter(form, datefmt="%H:%M:%S"))


def one_thread() -> None:
    """Keep torch to the threads that the workflow gave the job; without any, to one."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
