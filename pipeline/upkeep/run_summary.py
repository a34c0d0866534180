"""What a run has come to: made, reused, failed, still missing, and where its logs are."""

import time
from dataclasses import dataclass, field

from pipeline.planning.plan import Plan
from pipeline.store.logs import log_of

SHOWN = 12  # names a line


@dataclass
class Run:
    """A run of a plan, from its start."""

    plan: Plan
    began: float = field(default_factory=time.time)
    reused: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.reused = frozenset(ref for ref in self.plan.entries if self.plan.made(ref))

    def summary(self) -> str:
        """Counts and names; of each failed job the last line of its log and the log's place."""
        plan = self.plan
        made = [ref for ref in plan.entries if plan.made(ref) and ref not in self.reused]
        missing = [ref for ref in plan.entries if not plan.made(ref)]
        begun = {ref: line for ref in missing if (line := self.last_line(ref))}
        failed = [f"  {names(plan, [ref])}: {line}" for ref, line in begun.items()]
        waiting = [ref for ref in missing if ref not in begun]
        lines = [counted("made", plan, made), counted("reused", plan, sorted(self.reused))]
        lines += [f"not finished: {len(failed)}", *failed] if failed else []
        lines += [counted("not begun", plan, waiting)] if waiting else []
        return "\n".join([*lines, f"logs: {plan.store}/<kind>/<key>/attempts/*.log"])

    def last_line(self, ref: str) -> str:
        """The end of the newest log that this run has written for an artefact, and its place."""
        folder = log_of(self.plan.folder(ref)).parent
        logs = {path: path.stat().st_mtime for path in folder.glob("*.log")}
        path = max(logs, key=logs.get, default=None)
        if path is None or logs[path] < self.began:
            return ""
        lines = [line for line in path.read_text().splitlines() if line[:2] == "20"]
        return f"{lines[-1] if lines else 'no word'} ({path})"


def counted(word: str, plan: Plan, refs: list[str]) -> str:
    """How many, and which."""
    return f"{word}: {len(refs)}" + (f" ({names(plan, refs)})" if refs else "")


def names(plan: Plan, refs: list[str]) -> str:
    """`kind name, name; kind name`, cut where it gets long."""
    kinds: dict[str, list[str]] = {}
    for ref in refs[:SHOWN]:
        kinds.setdefault(plan.entries[ref].kind, []).append(plan.entries[ref].name)
    more = f"; and {len(refs) - SHOWN} more" if len(refs) > SHOWN else ""
    return "; ".join(f"{kind} {', '.join(found)}" for kind, found in kinds.items()) + more
