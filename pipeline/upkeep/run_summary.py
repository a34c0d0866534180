"""Summary of a run: artefacts made, reused, failed and missing, and where the logs are."""

import time
from dataclasses import dataclass, field

from pipeline.planning.plan import Plan
from pipeline.store.logs import get_log_path

NAMES_PER_LINE = 12  # at most


@dataclass
class PlanRun:
    """A run of a plan; create it when the run starts."""

    plan: Plan
    start_time: float = field(default_factory=time.time)
    reused: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.reused = frozenset(ref for ref in self.plan.artefacts if self.plan.is_complete(ref))

    def format_summary(self) -> str:
        """Counts and names; for each unfinished job, the last line and the path of its log."""
        plan = self.plan
        made = [ref for ref in plan.artefacts if plan.is_complete(ref) and ref not in self.reused]
        missing = [ref for ref in plan.artefacts if not plan.is_complete(ref)]
        begun = {ref: line for ref in missing if (line := self.find_last_log_line(ref))}
        failed = [f"  {format_names(plan, [ref])}: {line}" for ref, line in begun.items()]
        waiting = [ref for ref in missing if ref not in begun]
        lines = [
            format_count("made", plan, made),
            format_count("reused", plan, sorted(self.reused)),
        ]
        lines += [f"not finished: {len(failed)}", *failed] if failed else []
        lines += [format_count("not begun", plan, waiting)] if waiting else []
        return "\n".join([*lines, f"logs: {plan.store}/<kind>/<key>/attempts/*.log"])

    def find_last_log_line(self, ref: str) -> str:
        """The last line and the path of an artefact's newest log; empty if this run wrote none."""
        folder = get_log_path(self.plan.folder_path(ref)).parent
        logs = {path: path.stat().st_mtime for path in folder.glob("*.log")}
        path = max(logs, key=logs.get, default=None)
        if path is None or logs[path] < self.start_time:
            return ""
        lines = [line for line in path.read_text(errors="replace").splitlines() if line[:2] == "20"]
        return f"{lines[-1] if lines else 'no word'} ({path})"


def format_count(label: str, plan: Plan, refs: list[str]) -> str:
    """A line of the summary: how many artefacts, and which."""
    return f"{label}: {len(refs)}" + (f" ({format_names(plan, refs)})" if refs else "")


def format_names(plan: Plan, refs: list[str]) -> str:
    """The first names as `kind name, name; kind name`, and the number of further ones."""
    kinds: dict[str, list[str]] = {}
    for ref in refs[:NAMES_PER_LINE]:
        kinds.setdefault(plan.artefacts[ref].kind, []).append(plan.artefacts[ref].name)
    more = f"; and {len(refs) - NAMES_PER_LINE} more" if len(refs) > NAMES_PER_LINE else ""
    return "; ".join(f"{kind} {', '.join(found)}" for kind, found in kinds.items()) + more
