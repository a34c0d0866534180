"""Memory, time and GPUs that a job asks of its machine, and the GPUs that this machine has.

Nothing here is in a key but the device that `device: auto` stands for.
"""

import os
import re
import shutil
import subprocess

VISIBLE_VARIABLE = "CUDA_VISIBLE_DEVICES"
DEVICE_VARIABLE = "RETORT_DEVICE"  # the device that `auto` stands for, found by the first process
DEFAULT_MEMORY_MB = 4000  # MB
RESOURCE_FIELDS = ("mem_mb", "runtime", "gpus", "partition")


def resolve_resources(run: dict, kind: str) -> dict:
    """Memory (MB), run time (minutes), GPUs and partition of a kind's jobs.

    ``run`` is the section of a configuration or job. A field that the kind does not set is taken
    from ``all``. If neither sets it, it is None, and memory is `DEFAULT_MEMORY_MB`.
    """
    given = run.get("resources", {})
    resources = {"mem_mb": DEFAULT_MEMORY_MB} | dict.fromkeys(RESOURCE_FIELDS[1:])
    for section in (given.get("all"), given.get(kind)):
        resources |= {name: value for name, value in (section or {}).items() if value is not None}
    return resources


def count_gpus(kind: str, spec: dict, run: dict, processes: int = 1) -> int:
    """Number of GPUs of a job: as configured, else one per process if its device is `cuda`."""
    asked = resolve_resources(run, kind)["gpus"]
    return processes * (spec.get("device") == "cuda") if asked is None else asked


def list_gpus() -> list[str]:
    """Names of the GPUs that jobs may use here: those in CUDA_VISIBLE_DEVICES, or all."""
    if VISIBLE_VARIABLE in os.environ:
        names = (name.strip() for name in os.environ[VISIBLE_VARIABLE].split(","))
        return [name for name in names if name and not name.startswith("-")]
    if not shutil.which("nvidia-smi"):
        return []
    listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False)
    return re.findall(r"UUID: (GPU-[-\w]+)", listed.stdout)


def find_device() -> str:
    """`cuda` where there is a GPU, else `cpu`: what `device: auto` stands for.

    The first process that asks decides for all that it starts, so that they agree on the keys.
    """
    return os.environ.setdefault(DEVICE_VARIABLE, "cuda" if list_gpus() else "cpu")
