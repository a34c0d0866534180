"""What a job asks of the machine it runs on. Nothing here is in a key."""

DEFAULT_MEMORY_MB = 4000  # MB
RESOURCE_FIELDS = ("mem_mb", "runtime", "gpus", "partition")


def resolve_resources(run: dict, kind: str) -> dict:
    """Memory (MB), run time (minutes), GPUs and partition of a kind's jobs.

    ``run`` is a configuration's or a work order's. What a kind leaves open is that of ``all``;
    what both leave open is None, but for memory.
    """
    given = run.get("resources", {})
    resources = {"mem_mb": DEFAULT_MEMORY_MB} | dict.fromkeys(RESOURCE_FIELDS[1:])
    for section in (given.get("all"), given.get(kind)):
        resources |= {name: value for name, value in (section or {}).items() if value is not None}
    return resources


def count_gpus(kind: str, spec: dict, run: dict, processes: int = 1) -> int:
    """How many GPUs a job takes: those asked for, else one a process where it computes on one."""
    asked = resolve_resources(run, kind)["gpus"]
    return processes * (spec.get("device") == "cuda") if asked is None else asked
