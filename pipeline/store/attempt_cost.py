"""What making an artefact cost. It stands outside every digest."""

import json
import os
import platform
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.store.artefact import Job, write_json

RUSAGE_TARGETS = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def measure_cpu_seconds() -> float:
    """CPU-seconds of this process and of those it has started and seen end."""
    return sum(use.ru_utime + use.ru_stime for use in map(resource.getrusage, RUSAGE_TARGETS))


@contextmanager
def record_attempt_cost(job: Job, part: str) -> Iterator[None]:
    """Keep the block's cost in the artefact's ``attempts/``, also if it is cut short."""
    start_time, start_cpu_seconds = time.monotonic(), measure_cpu_seconds()
    try:
        yield
    except OSError:
        raise  # a store that cannot be written to takes no record either, and the reason counts
    except BaseException:
        write_attempt_cost(job, part, start_time, start_cpu_seconds)
        raise
    write_attempt_cost(job, part, start_time, start_cpu_seconds)


def write_attempt_cost(job: Job, part: str, start_time: float, start_cpu_seconds: float) -> None:
    """Write one attempt's cost."""
    cost = {
        "part": part,
        "seconds": round(time.monotonic() - start_time, 2),
        "cpu_seconds": round(measure_cpu_seconds() - start_cpu_seconds, 2),
        "peak_mb": max(resource.getrusage(who).ru_maxrss for who in RUSAGE_TARGETS) // 1024,
        "host": platform.node(),
        "threads": sys.modules["torch"].get_num_threads() if "torch" in sys.modules else 1,
        "gpus": os.environ.get("CUDA_VISIBLE_DEVICES", ""),
        "python": platform.python_version(),
        "torch": sys.modules["torch"].__version__ if "torch" in sys.modules else "",
    }
    name = f"timing-{part.replace(':', '-')}-{time.time_ns()}.json"
    write_json(job.folder / "attempts" / name, cost)


def sum_attempt_costs(folder: Path) -> dict[str, float]:
    """Wall and CPU seconds over all attempts and parts, and the highest memory in MB."""
    records = [json.loads(p.read_text()) for p in sorted((folder / "attempts").glob("*.json"))]
    return {
        "seconds": sum(r["seconds"] for r in records),
        "cpu_seconds": sum(r["cpu_seconds"] for r in records),
        "peak_mb": max((r["peak_mb"] for r in records), default=0),
    }
