"""Memory, time and GPUs that a job asks of its machine. Nothing here is in a key."""

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
