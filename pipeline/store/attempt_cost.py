"""What making an artefact cost in time and memory. No sum or key includes it."""

import json
import logging
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.store.artefact import Job, write_json

log = logging.getLogger("retort")

SUMMED_FIELDS = ("seconds", "cpu_seconds", "peak_mb")
RUSAGE_TARGETS = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def measure_cpu_seconds() -> float:
    """CPU-seconds of this process and of its finished child processes."""
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, RUSAGE_TARGETS))


@contextmanager
def record_attempt_cost(job: Job, part: str) -> Iterator[None]:
    """Records the block's cost in the artefact's ``attempts/``, also if the block raises."""
    start_time, start_cpu_seconds = time.monotonic(), measure_cpu_seconds()
    try:
        yield
    except OSError:
        raise  # the store may not be writable: no record, so that this error is reported
    except BaseException:
        write_attempt_cost(job, part, start_time, start_cpu_seconds)
        raise
    write_attempt_cost(job, part, start_time, start_cpu_seconds)


def write_attempt_cost(job: Job, part: str, start_time: float, start_cpu_seconds: float) -> None:
    """Writes one attempt's cost."""
    cost = {
        "part": part,
        "seconds": round(time.monotonic() - start_time, 2),
        "cpu_seconds": round(measure_cpu_seconds() - start_cpu_seconds, 2),
        "peak_mb": max(resource.getrusage(who).ru_maxrss for who in RUSAGE_TARGETS) // 1024,
        "host": platform.node(),
        "threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 1,
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "card": get_card_name(),
        "instructions": get_instruction_set(),
        "python": platform.python_version(),
        "torch": sys.modules["torch"].__version__ if "torch" in sys.modules else "",
    }
    name = f"timing-{part.replace(':', '-')}-{time.time_ns()}.json"
    write_json(job.folder / "attempts" / name, cost)


def get_card_name() -> str:
    """The name of the GPU that this process has used; empty if it has used none."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return ""
    return torch.cuda.get_device_name()


def get_instruction_set() -> str:
    """The processor's vector instructions that torch uses; empty if torch was not used.

    Processors sum in different orders. "bf16" says that torch has fast products in bf16; without,
    products in bf16 are widened to single precision.
    """
    torch = sys.modules.get("torch")
    if torch is None:
        return ""
    found = torch.backends.cpu.get_cpu_capability()
    mkldnn = torch.backends.mkldnn.is_available() and torch.ops.mkldnn
    return f"{found}, bf16" if mkldnn and mkldnn._is_mkldnn_bf16_supported() else found


def read_attempt_record(path: Path) -> dict | None:
    """What one attempt cost; None for a record that is altered or that this user may not read."""
    try:
        record = json.loads(path.read_text())
        if all(isinstance(record[name], int | float) for name in SUMMED_FIELDS):
            return record
    except (ValueError, KeyError, TypeError, PermissionError):
        pass
    log.warning("%s: is no readable record of an attempt's cost; left out", path)
    return None


def sum_attempt_costs(folder: Path) -> dict[str, float]:
    """Wall and CPU seconds over all attempts and parts, and the peak memory in MB.

    A record that cannot be read is left out and named in the log.
    """
    paths = sorted((folder / "attempts").glob("*.json"))
    records = [record for path in paths if (record := read_attempt_record(path)) is not None]
    return {
        "seconds": sum(r["seconds"] for r in records),
        "cpu_seconds": sum(r["cpu_seconds"] for r in records),
        "peak_mb": max((r["peak_mb"] for r in records), default=0),
    }
