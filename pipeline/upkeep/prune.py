"""Verb `prune`: lists or deletes unreferenced artefacts and the leftovers of dead jobs."""

import argparse
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.reader import read_config
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.store.artefact import MANIFEST_FILE
from pipeline.store.lease import STALE_SECONDS, describe_holder
from pipeline.upkeep.listing import (
    NAMES_FOLDER,
    collect_with_inputs,
    count_bytes,
    find_names,
    format_bytes,
    format_table,
    list_refs,
)

TRASH_PREFIX = ".pruned"
LEFTOVER_PATTERN = re.compile(r"\..+\.part|\..+\.lock\..+|\.import-.+|\.pruned.*")


@dataclass(frozen=True)
class PruneCandidate:
    """A folder or file that can be deleted, and why."""

    path: Path
    reason: str


def run_verb(options: argparse.Namespace) -> None:
    """List what can be deleted; with ``--delete``, delete it."""
    plans = [make_plan(read_config(path)) for path in options.configfile]
    store = get_common_store(plans)
    pieces = [*find_unreferenced(store, plans), *find_dead_job_files(store)]
    if not pieces:
        print("nothing to prune")
        return
    names, sizes = find_names(store), [count_bytes(piece.path) for piece in pieces]
    lines = [("size", "path", "why")]
    for piece, size in zip(pieces, sizes, strict=True):
        label = ", ".join(names.get("/".join(piece.path.parts[-2:]), []))
        lines.append((format_bytes(size), str(piece.path), f"{piece.reason} {label}".rstrip()))
    print(format_table(lines))
    if not options.delete:
        print(f"{format_bytes(sum(sizes))} in all; nothing was deleted: add --delete to do so")
        return
    for piece in pieces:
        delete_path(store, piece.path)
    unlink_dangling_names(store)
    print(f"{format_bytes(sum(sizes))} deleted")


def get_common_store(plans: list[Plan]) -> Path:
    """The store that all configurations share.

    Raises:
        RetortError: the configurations have several stores.
    """
    stores = sorted({str(plan.store.resolve()) for plan in plans})
    if len(stores) > 1:
        raise RetortError(f"store: the configurations have {len(stores)}; prune one at a time")
    return plans[0].store


def find_unreferenced(store: Path, plans: list[Plan]) -> Iterator[PruneCandidate]:
    """Artefacts that no configuration and no running job needs, directly or as an input."""
    present = list_refs(store)
    wanted = {ref for plan in plans for ref in plan.artefacts}
    busy = [ref for ref in present if any(describe_holder(p) for p in (store / ref).glob("*.lock"))]
    kept = set(collect_with_inputs(store, [*wanted, *busy]))
    for ref in present:
        if ref not in kept:
            made = (store / ref / MANIFEST_FILE).exists()
            yield PruneCandidate(
                store / ref, "not referred to" if made else "unfinished, not referred to"
            )


def find_dead_job_files(store: Path) -> Iterator[PruneCandidate]:
    """What dead jobs left in folders that stay: state, leases, half-written files."""
    yield from (PruneCandidate(path, "left half-done") for path in list_temporary_files(store))
    for ref in list_refs(store):
        folder = store / ref
        locks = list(folder.glob("*.lock"))
        yield from (
            PruneCandidate(path, "lease of a dead job")
            for path in locks
            if not describe_holder(path)
        )
        if any(describe_holder(path) for path in locks):
            continue
        if (folder / MANIFEST_FILE).exists() and (folder / "state").is_dir():
            yield PruneCandidate(folder / "state", "state of finished work")
        yield from (PruneCandidate(path, "half-written") for path in list_temporary_files(folder))


def list_temporary_files(folder: Path) -> list[Path]:
    """Temporary files in a folder that are older than a stale lease."""
    now = time.time()
    return [
        path
        for path in sorted(folder.glob(".*"))
        if LEFTOVER_PATTERN.fullmatch(path.name) and now - path.lstat().st_mtime > STALE_SECONDS
    ]


def delete_path(store: Path, path: Path) -> None:
    """Delete a file or folder; a folder is renamed first, so that it is never half there."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    trash = store / f"{TRASH_PREFIX}-{os.getpid()}-{path.parent.name}-{path.name}"
    os.rename(path, trash)
    shutil.rmtree(trash)


def unlink_dangling_names(store: Path) -> None:
    """Delete the names of artefacts that no longer exist."""
    for link in (store / NAMES_FOLDER).glob("*/*"):
        if link.is_symlink() and not link.exists():
            link.unlink()
