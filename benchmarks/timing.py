"""What every benchmark shares: taking turns, ratios within one run, and the file of a result.

Works that are compared take turns, so that a busy or a slower moment meets all of them. A ratio is
formed within each round and then summarised over the rounds; times of different runs are never
divided by each other.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from pipeline.core.devices.host_memory import keep_freed_memory

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
QUICK_RESULTS = ROOT / "build" / "bench"
Seconds = dict[str, list[float]]


@dataclass(frozen=True)
class Settings:
    """How a benchmark runs.

    Attributes:
        quick: a tenth of the sizes, and few rounds: it tries the script and measures little.
        rounds: how often each work has its turn.
        out: the folder of the results.
        store: a store of finished artefacts, for what is read off their records.
    """

    quick: bool
    rounds: int
    out: Path
    store: Path | None = None

    def scale(self, full: int, least: int = 1) -> int:
        """A size: as it is, or a tenth."""
        return max(full // 10, least) if self.quick else full


def parse_settings(description: str) -> Settings:
    """The options that every benchmark takes; memory and threads are set as a job sets them."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--quick", action="store_true", help="a tenth of the sizes")
    options.add_argument("--rounds", type=int, help="turns of each work")
    options.add_argument("--out", type=Path, help="folder of the results")
    options.add_argument("--store", type=Path, help="a store whose records are read")
    given = options.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    rounds = given.rounds or (2 if given.quick else 5)
    out = given.out or (QUICK_RESULTS if given.quick else RESULTS)
    return Settings(given.quick, rounds, out, given.store)


def take_turns(
    works: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm: int = 1,
    clock: Callable[[], float] = time.process_time,
) -> Seconds:
    """Seconds of each work in each round; every work has its turn before one has its next.

    Args:
        works: what is timed, by name; called once a round.
        warm: rounds before the first that counts.
        clock: CPU seconds of this process unless another clock is given.
    """
    seconds: Seconds = {name: [] for name in works}
    for turn in range(warm + rounds):
        for name, work in works.items():
            start = clock()
            work()
            if turn >= warm:
                seconds[name].append(clock() - start)
    return seconds


def divide(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """The ratio of each round."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]


def show(values: Sequence[float], digits: int = 2, unit: str = "") -> str:
    """`1.20 [1.18, 1.31]`: the median, the least and the greatest."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f}{unit} [{low:,.{digits}f}, {high:,.{digits}f}]"


def summarise(values: Sequence[float]) -> dict[str, float]:
    """The same three numbers by name, for the data of a chart."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def format_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; all columns but the first stand to the right."""
    lines = [head, ["---", *["--:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def format_profile(work: Callable[[], object], operations: int = 6) -> str:
    """A Markdown table of the torch operations that take most CPU time in one call of a work."""
    work()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    times = sorted(found.key_averages(), key=lambda each: -each.self_cpu_time_total)
    total = sum(each.self_cpu_time_total for each in times)
    shown, others = times[:operations], times[operations:]
    rows = [[f"`{t.key}`", share(t.self_cpu_time_total, total), t.count] for t in shown]
    left = sum(each.self_cpu_time_total for each in others)
    rows.append([f"{len(others)} others", share(left, total), sum(t.count for t in others)])
    return format_table(["operation", "CPU time", "calls"], rows)


def share(part: float, whole: float) -> str:
    """`12.3 %`."""
    return f"{100 * part / whole:.1f} %"


def name_processor() -> str:
    """The processor's model, as the system calls it."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def name_commit() -> str:
    """The commit that was measured; «+» if files differ from it, «unknown» outside a clone."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()

    changed = git(
        "status", "--porcelain", "--untracked-files=no", "--", "pipeline", "benchmarks/*.py"
    )
    return (git("rev-parse", "--short", "HEAD") or "unknown") + ("+" if changed else "")


def name_versions(packages: Sequence[str]) -> str:
    """`torch 2.11.0, foolbox 3.3.4`."""
    found = []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} is not installed")
    return ", ".join(found)


def describe_run(
    settings: Settings, packages: Sequence[str] = (), *, takes_turns: bool = True
) -> str:
    """One paragraph: machine, load, versions, commit, day."""
    cores, (load, _, _) = os.cpu_count(), os.getloadavg()
    processor = f"{name_processor()} ({torch.backends.cpu.get_cpu_capability()})"
    about = f"{processor}, {cores} cores (load {load:.1f} at the end of the run)"
    versions = f"Python {platform.python_version()}, {name_versions(('torch', *packages))}"
    size = " **Quick run: sizes are a tenth, the numbers say little.**" if settings.quick else ""
    turns = f" Median [least, greatest] of {settings.rounds} rounds; all works take turns in each."
    turns = turns if takes_turns else ""
    return f"{about}; {versions}; commit {name_commit()}; {date.today()}.{turns}{size}"


def write_result(settings: Settings, name: str, text: str, data: object) -> None:
    """Write `<name>.md`, print it, and write its numbers to `data/<name>.json` for the charts."""
    settings.out.mkdir(parents=True, exist_ok=True)
    (settings.out / f"{name}.md").write_text(text.rstrip() + "\n")
    (settings.out / "data").mkdir(exist_ok=True)
    numbers = json.dumps(data, indent=1, sort_keys=True)
    (settings.out / "data" / f"{name}.json").write_text(numbers + "\n")
    print(text)
