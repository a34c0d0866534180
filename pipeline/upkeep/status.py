"""Verb `status`: what of a configuration is made, running, unfinished or missing; by what code."""

import argparse
from pathlib import Path
from typing import Any

from pipeline.config.reader import read
from pipeline.config.specs import spec_of
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.store import checkpoint
from pipeline.store.artifact import MANIFEST, open_artifact
from pipeline.store.lease import worker
from pipeline.upkeep.code_drift import changes, lost_modules
from pipeline.upkeep.listing import columns, refs_in

STATES = ("made", "broken", "running", "unfinished", "missing")
MOVED = "2026-11-28"  # when modules moved into rooms, whose names are in every key


def show(options: argparse.Namespace) -> None:
    """Print one line an artefact, what other code has made, and the counts."""
    plan = make_plan(read(options.configfile))
    print(status(plan))


def status(plan: Plan) -> str:
    """The whole text."""
    labels: dict[str, list[str]] = {}
    for (_, name), ref in plan.names.items():
        labels.setdefault(ref, []).append(name)
    lines, counts, old = [("kind", "name", "key", "state", "")], dict.fromkeys(STATES, 0), []
    for ref, entry in plan.entries.items():
        state, remark = standing(plan, ref)
        counts[state] += 1
        lines.append((entry.kind, " = ".join(labels[ref]), entry.key, state, remark))
        if state == "made" and (changed := changes(open_artifact(plan.folder(ref)).manifest)):
            old.append(f"  {entry.kind} {entry.name} ({entry.key}): {', '.join(changed)}")
    total = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
    parts = [columns(lines)]
    if old:
        parts.append("Made by other code than today's, kept (strict_code: true would remake them):")
        parts += old
    if count := count_older(plan.store):
        parts.append(older_line(count))
    return "\n".join([*parts, f"{len(plan.entries)} artefacts: {total or 'none'}"])


def count_older(store: Path) -> int:
    """How many finished artefacts were made by modules that today's package does not have.

    A manifest that cannot be read says of no module; ``verify --all`` names it.
    """
    count = 0
    for ref in refs_in(store):
        if (store / ref / MANIFEST).exists():
            try:
                manifest = open_artifact(store / ref).manifest
            except RetortError:
                continue
            count += bool(lost_modules(manifest))
    return count


def older_line(count: int) -> str:
    """What it means that a store holds artefacts of modules that have moved since."""
    noun = "artefact was" if count == 1 else "artefacts were"
    return (
        f"{count} {noun} made before {MOVED}, when modules moved and every key changed once: the "
        "store's banks and teachers will be made again. Older ones are kept until 'python -m "
        "pipeline prune --configfile FILE --delete'; without --delete it lists them"
    )


def standing(plan: Plan, ref: str) -> tuple[str, str]:
    """How an artefact stands, one of STATES, and a remark on it."""
    folder = plan.folder(ref)
    if plan.made(ref):
        try:
            open_artifact(folder)
        except RetortError as error:
            return "broken", str(error)
        return "made", ""
    workers = [who for lock in sorted(folder.glob("*.lock")) if (who := worker(lock))]
    done = progress(folder, spec_of(plan.entries[ref]))
    if workers:
        return "running", "; ".join(filter(None, [f"on {', '.join(workers)}", done]))
    return ("unfinished", done) if done else ("missing", "")


def progress(folder: Path, spec: Any) -> str:
    """How far unfinished work is; empty if it has not begun."""
    parts = []
    if shards := len(list(folder.glob("shard-*.json"))):
        parts.append(f"{shards} of {spec.shards} shards")
    if chunks := len(list((folder / "state").glob("*.parquet"))):
        parts.append(f"{chunks} chunks of attacks")
    for path in sorted((folder / "state").glob("*.pt")):
        parts.append(trained(path, spec))
    return ", ".join(parts)


def trained(path: Path, spec: Any) -> str:
    """How far a training's checkpoint is."""
    try:
        counters = (checkpoint.restore(path, "cpu", mapped=True) or {}).get("counters")
    except RetortError as error:
        return str(error)
    return (
        f"epoch {counters[0] + 1} of {spec.recipe.epochs}, step {counters[1]}"
        if counters
        else path.name
    )
