"""Stages in several processes: torchrun starts them, and the calling verb holds the lease."""

import ctypes
import logging
import os
import signal
import sys

from pipeline.errors import RetortError
from pipeline.interrupts import PR_SET_PDEATHSIG
from pipeline.store.artefact import Job

RANKS_VARIABLE = "RETORT_RANKS_OF"  # the job folder that the started processes work on
REPORTED_ERROR_STATUS = 2  # exit status of a process that has logged its error
SHUTDOWN_SECONDS = 60  # in which the started processes may save

log = logging.getLogger("retort")


def count_processes(kind: str, spec: dict, run: dict) -> int:
    """The number of processes of an artefact's job; it is in the key only where they train."""
    if kind == "evaluation":
        return run.get("gpus_per_evaluation", 1)
    return spec.get("recipe", {}).get("gpus", 1)


def get_rank_and_world_size(job: Job) -> tuple[int, int]:
    """Rank and number of processes; (0, 1) unless ``run_processes`` started this one."""
    if os.environ.get(RANKS_VARIABLE) != str(job.folder):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def set_up_rank_process() -> None:
    """Make a process of ``run_processes`` die with its parent; only rank 0 logs information."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if int(os.environ["RANK"]) > 0:
        log.setLevel(logging.WARNING)


def run_processes(job: Job, verb: str, process_count: int) -> None:
    """Run ``python -m pipeline <verb> <folder>`` in ``process_count`` processes; wait for them.

    Raises:
        RetortError: a process died or failed; the others are stopped.
        SystemExit: this process was asked to stop; the others have stopped.
    """
    from torch.distributed import run
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    threads = max(int(os.environ.get("OMP_NUM_THREADS", "1")) // process_count, 1)
    os.environ |= {RANKS_VARIABLE: str(job.folder), "OMP_NUM_THREADS": str(threads)}
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SHUTDOWN_SECONDS))
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    command = ["--standalone", "--local-addr", "127.0.0.1", "--nproc-per-node", str(process_count)]
    try:
        run.main([*command, "-m", "pipeline", verb, str(job.folder)])
    except SignalException as stop:
        wait_for_children()
        raise SystemExit(128 + stop.sigval) from stop
    except ChildFailedError as error:
        raise RetortError(
            f"{job.folder}: {explain_failure(error.failures, process_count)}"
        ) from error


def wait_for_children() -> None:
    """Wait until the started processes have saved and ended.

    torch does, but a second signal, such as a terminal's beside the run's, ends its wait.
    """
    import psutil

    psutil.wait_procs(psutil.Process().children(), timeout=SHUTDOWN_SECONDS)


def explain_failure(failures: dict, process_count: int) -> str:
    """A description of the failure: of a killed process if any, else of the first that failed."""
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
        "fix the cause and run again"
    )
