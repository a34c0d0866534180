"""Verb `status`: the state of each artefact of a configuration, and what other code has made."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.config.reader import read_config
from pipeline.config.specs import get_spec
from pipeline.errors import COMMAND, RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.store import checkpoint
from pipeline.store.artefact import MANIFEST_FILE, open_artefact
from pipeline.store.lease import describe_holder
from pipeline.upkeep.code_drift import list_code_changes, lost_modules
from pipeline.upkeep.listing import format_table, list_refs

STATES = ("made", "broken", "running", "unfinished", "missing")
MOVED = "2026-11-28"  # when modules moved into rooms; module names are in every key


def run_verb(options: argparse.Namespace) -> None:
    """Print one line per artefact, what other code has made, and the counts."""
    plan = make_plan(read_config(*options.configfile))
    print(format_status(plan))


def format_status(plan: Plan) -> str:
    """The text that the verb prints."""
    labels: dict[str, list[str]] = {}
    for (_, name), ref in plan.refs_by_name.items():
        labels.setdefault(ref, []).append(name)
    lines, counts, old = [("kind", "name", "key", "state", "")], dict.fromkeys(STATES, 0), []
    for ref, entry in plan.artefacts.items():
        state, remark = inspect_state(plan, ref)
        counts[state] += 1
        lines.append((entry.kind, " = ".join(labels[ref]), entry.key, state, remark))
        if state == "made" and (
            changed := list_code_changes(open_artefact(plan.folder_path(ref)).manifest)
        ):
            old.append(f"  {entry.kind} {entry.name} ({entry.key}): {', '.join(changed)}")
    total = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    parts = [format_table(lines)]
    if old:
        parts.append("Made by other code than today's, kept (strict_code: true would remake them):")
        parts += old
    if count := count_older(plan.store):
        parts.append(older_line(count))
    return "\n".join([*parts, f"{len(plan.artefacts)} artefacts: {total or 'none'}"])


def count_older(store: Path) -> int:
    """Number of finished artefacts that were made by modules which no longer exist.

    Manifests that cannot be read are not counted; ``verify --all`` names them.
    """
    count = 0
    for ref in list_refs(store):
        if (store / ref / MANIFEST_FILE).exists():
            try:
                manifest = open_artefact(store / ref).manifest
            except RetortError:
                continue
            count += bool(lost_modules(manifest))
    return count


def older_line(count: int) -> str:
    """The line on artefacts of modules that have moved since: what it means, and what to do."""
    noun = "artefact was" if count == 1 else "artefacts were"
    return (
        f"{count} {noun} made before {MOVED}, when modules moved and every key changed once: the "
        "store's banks and teachers will be made again. Older ones are kept until "
        f"'{COMMAND} prune --configfile FILE --delete'; without --delete it lists them"
    )


def inspect_state(plan: Plan, ref: str) -> tuple[str, str]:
    """An artefact's state, one of STATES, and a remark on it."""
    folder = plan.folder_path(ref)
    if plan.is_complete(ref):
        try:
            open_artefact(folder)
        except RetortError as error:
            return "broken", str(error)
        return "made", ""
    workers = [who for lock in sorted(folder.glob("*.lock")) if (who := describe_holder(lock))]
    done = describe_progress(folder, get_spec(plan.artefacts[ref]))
    if workers:
        return "running", "; ".join(filter(None, [f"on {', '.join(workers)}", done]))
    return ("unfinished", done) if done else ("missing", "")


def describe_progress(folder: Path, spec: Any) -> str:
    """The progress of an unfinished artefact; empty if its job has not begun."""
    parts = []
    if shards := len(list(folder.glob("shard-*.json"))):
        parts.append(f"{shards} of {spec.shards} shards")
    if chunks := len(list((folder / "state").glob("*.parquet"))):
        parts.append(f"{chunks} chunks of attacks")
    for path in sorted((folder / "state").glob("*.pt")):
        parts.append(describe_training_progress(path, spec))
    return ", ".join(parts)


def describe_training_progress(path: Path, spec: Any) -> str:
    """Epoch and step of a training's checkpoint."""
    try:
        counters = (checkpoint.load(path, "cpu", mmap=True) or {}).get("counters")
    except RetortError as error:
        return str(error)
    return (
        f"epoch {counters[0] + 1} of {spec.recipe.epochs}, step {counters[1]}"
        if counters
        else path.name
    )
