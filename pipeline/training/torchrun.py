"""A stage in several processes: torchrun starts them, the verb that was called holds the lease."""

import ctypes
import logging
import os
import signal
import sys

from pipeline.errors import RetortError
from pipeline.store.artefact import Job

RANKS_VARIABLE = "RETORT_RANKS_OF"  # the folder whose processes torchrun has started
REPORTED_ERROR_STATUS = 2  # exit status of a process that has printed its reason
PR_SET_PDEATHSIG = 1  # PR_SET_PDEATHSIG of Linux's prctl

log = logging.getLogger("retort")


def count_processes(kind: str, spec: dict, run: dict) -> int:
    """How many processes make an artefact; their number is in its key only where they train."""
    if kind == "evaluation":
        return run.get("gpus_per_evaluation", 1)
    return spec.get("recipe", {}).get("gpus", 1)


def get_rank_and_world_size(job: Job) -> tuple[int, int]:
    """This process's rank and their number; (0, 1) unless it was started below for this job."""
    if os.environ.get(RANKS_VARIABLE) != str(job.folder):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def set_up_rank_process() -> None:
    """In a process that was started below: die with its parent, and leave talking to the first."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if int(os.environ["RANK"]) > 0:
        log.setLevel(logging.WARNING)


def run_processes(job: Job, verb: str, process_count: int) -> None:
    """Run ``python -m pipeline <verb> <folder>`` in ``count`` processes to their end.

    Raises:
        RetortError: one of them died or failed; the others are stopped.
        SystemExit: this process was asked to stop, and they have stopped.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    threads = max(int(os.environ.get("OMP_NUM_THREADS", "1")) // process_count, 1)
    os.environ |= {RANKS_VARIABLE: str(job.folder), "OMP_NUM_THREADS": str(threads)}
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", "60")  # seconds to save in
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    command = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(process_count)]
    try:
        run.main([*command, "-m", "pipeline", verb, str(job.folder)])
    except SignalException as stop:
        raise SystemExit(128 + stop.sigval) from stop
    except ChildFailedError as error:
        raise RetortError(
            f"{job.folder}: {explain_failure(error.failures, process_count)}"
        ) from error


def explain_failure(failures: dict, process_count: int) -> str:
    """What became of the process that ended the others: one that was killed, else the first."""
    rank, failure = min(failures.items(), key=lambda f: (f[1].exitcode >= 0, f[1].timestamp))
    if failure.exitcode < 0:
        outcome_text = f"was killed by {signal.Signals(-failure.exitcode).name} (out of memory?)"
    elif failure.exitcode == REPORTED_ERROR_STATUS:
        outcome_text = "stopped for the reason above"
    else:
        outcome_text = f"ended with status {failure.exitcode}, its traceback is above"
    return (
        f"process {rank} of {process_count} {outcome_text}; the others were stopped and what was "
        f"saved is kept; "
        "mend the cause and run again"
    )
