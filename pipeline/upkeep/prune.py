"""Verb `prune`: what no configuration refers to, and what dead jobs left behind."""

import argparse
import os
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.reader import read
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan
from pipeline.store.artifact import MANIFEST
from pipeline.store.lease import STALE_SECONDS, worker
from pipeline.upkeep.listing import NAMES, amount, columns, names_in, refs_in, size_of, with_inputs

TRASH = ".pruned"
LEFTOVER = re.compile(r"\..+\.part|\..+\.lock\..+|\.import-.+|\.pruned.*")


@dataclass(frozen=True)
class Piece:
    """Something that can go: a folder or a file, and why."""

    path: Path
    why: str


def show(options: argparse.Namespace) -> None:
    """List what can go; with ``--delete`` let it go."""
    plans = [make_plan(read(path)) for path in options.configfile]
    store = one_store(plans)
    pieces = [*unreferred(store, plans), *stale(store)]
    if not pieces:
        print("nothing to prune")
        return
    names, sizes = names_in(store), [size_of(piece.path) for piece in pieces]
    lines = [("size", "path", "why")]
    for piece, size in zip(pieces, sizes, strict=True):
        label = ", ".join(names.get("/".join(piece.path.parts[-2:]), []))
        lines.append((amount(size), str(piece.path), f"{piece.why} {label}".rstrip()))
    print(columns(lines))
    if not options.delete:
        print(f"{amount(sum(sizes))} in all; nothing was deleted: add --delete to do so")
        return
    for piece in pieces:
        delete(store, piece.path)
    unlink_dangling(store)
    print(f"{amount(sum(sizes))} deleted")


def one_store(plans: list[Plan]) -> Path:
    """The store of all the configurations.

    Raises:
        RetortError: they have more than one.
    """
    stores = sorted({str(plan.store.resolve()) for plan in plans})
    if len(stores) > 1:
        raise RetortError(f"store: the configurations have {len(stores)}; prune one at a time")
    return plans[0].store


def unreferred(store: Path, plans: list[Plan]) -> Iterator[Piece]:
    """Artefacts that no configuration, no running job and nothing that these keep refers to."""
    present = refs_in(store)
    wanted = {ref for plan in plans for ref in plan.entries}
    busy = [ref for ref in present if any(worker(p) for p in (store / ref).glob("*.lock"))]
    kept = set(with_inputs(store, [*wanted, *busy]))
    for ref in present:
        if ref not in kept:
            made = (store / ref / MANIFEST).exists()
            yield Piece(store / ref, "not referred to" if made else "unfinished, not referred to")


def stale(store: Path) -> Iterator[Piece]:
    """What jobs that died left in folders that stay: state, leases, half-written files."""
    yield from (Piece(path, "left half-done") for path in leftovers(store))
    for ref in refs_in(store):
        folder = store / ref
        locks = list(folder.glob("*.lock"))
        yield from (Piece(path, "lease of a dead job") for path in locks if not worker(path))
        if any(worker(path) for path in locks):
            continue
        if (folder / MANIFEST).exists() and (folder / "state").is_dir():
            yield Piece(folder / "state", "state of finished work")
        yield from (Piece(path, "half-written") for path in leftovers(folder))


def leftovers(folder: Path) -> list[Path]:
    """Temporary files here that nobody has touched for as long as a lease takes to go stale."""
    now = time.time()
    return [
        path
        for path in sorted(folder.glob(".*"))
        if LEFTOVER.fullmatch(path.name) and now - path.lstat().st_mtime > STALE_SECONDS
    ]


def delete(store: Path, path: Path) -> None:
    """Delete a piece; a folder vanishes at once from its place, then from the disk."""
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return
    grave = store / f"{TRASH}-{os.getpid()}-{path.parent.name}-{path.name}"
    os.rename(path, grave)
    shutil.rmtree(grave)


def unlink_dangling(store: Path) -> None:
    """Take away names of what is no more."""
    for link in (store / NAMES).glob("*/*"):
        if link.is_symlink() and not link.exists():
            link.unlink()
