"""The demo by stage: `python -m benchmarks.demo_stages --store store`.

Nothing is run: each artefact of a finished store has records of what making it cost.
"""

from pathlib import Path

from benchmarks.timing import (
    describe_run,
    format_table,
    parse_settings,
    write_result,
)
from pipeline.store.artefact import STAGES_BY_KIND
from pipeline.store.attempt_cost import sum_attempt_costs


def read_costs(store: Path) -> dict[str, dict[str, dict[str, float]]]:
    """What each artefact cost, by kind and name."""
    found = {}
    for kind in STAGES_BY_KIND:
        folder = store / "by-name" / kind
        named = sorted(folder.iterdir()) if folder.is_dir() else []
        found[kind] = {path.name: sum_attempt_costs(path) for path in named}
    return found


def main() -> None:
    """Read the records and write `demo-stages.md`."""
    settings = parse_settings(__doc__.splitlines()[0])
    if settings.store is None:
        print("demo_stages: left out; give a finished store with --store")
        return
    costs = read_costs(settings.store)
    total = sum(c["cpu_seconds"] for jobs in costs.values() for c in jobs.values())
    rows = []
    for kind, jobs in costs.items():
        for name, cost in jobs.items():
            share = f"{100 * cost['cpu_seconds'] / total:.1f} %"
            numbers = [f"{cost['cpu_seconds']:.0f}", f"{cost['seconds']:.0f}", share]
            rows.append([f"{kind} {name}", *numbers, f"{cost['peak_mb']:,.0f}"])
    rows.append(["all", f"{total:.0f}", "", "100 %", ""])
    text = f"""# The demo by stage

`python -m benchmarks.demo_stages --store store`: the records of a finished store; a job's start
(Python, torch) is not in them. Records of killed and repeated attempts are added up.

The table was printed on: {describe_run(settings, takes_turns=False)}

{format_table(["artefact", "CPU seconds", "seconds", "share", "peak MB"], rows)}"""
    write_result(settings, "demo-stages", text, costs)


if __name__ == "__main__":
    main()
