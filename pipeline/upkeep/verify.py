"""Verb `verify`: every file of every artefact against its sum, every key against its content."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.reader import read
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import key_of
from pipeline.store.artifact import MANIFEST, SPEC, Manifest, open_artifact, read_json, sha256_of
from pipeline.upkeep.listing import names_in, refs_in


@dataclass(frozen=True)
class Fault:
    """A file of an artefact that is not what it should be."""

    ref: str
    file: str
    what: str


def show(options: argparse.Namespace) -> None:
    """Check, print each fault with its remedy, and with ``--mend`` open what is broken for a rerun.

    Raises:
        RetortError: something is broken and was not mended.
    """
    plan = make_plan(read(options.configfile))
    store = plan.store
    every = refs_in(store) if options.all else plan.entries
    refs = [ref for ref in every if plan.made(ref)]
    if len(refs) < len(every):
        print(f"{len(every) - len(refs)} artefacts are not finished, so not checked: see status")
    found = [fault for ref in refs for fault in faults(store, ref)]
    names = names_in(store)
    for fault in found:
        label = ", ".join(names.get(fault.ref, ["without a name"]))
        print(f"{store / fault.ref / fault.file}: {fault.what} ({label})")
    broken = list(dict.fromkeys(fault.ref for fault in found))
    if not broken:
        print(f"{len(refs)} artefacts are whole")
        return
    targets = " ".join(str(plan.manifest(ref)) for ref in broken)
    if not options.mend:
        raise RetortError(
            f"{len(broken)} of {len(refs)} artefacts are broken; add --mend to have them made again"
        )
    for ref in broken:
        mend(store, ref, found)
    print(f"mended: what needs them makes them again; now: snakemake --cores all {targets}")


def mend(store: Path, ref: str, found: list[Fault]) -> None:
    """Take an artefact's manifest away, and a work order that is not its key's: so it is remade."""
    if Fault(ref, SPEC, ALTERED_ORDER) in found:
        (store / ref / SPEC).unlink()
    (store / ref / MANIFEST).unlink(missing_ok=True)


ALTERED_ORDER = "is not the work order of this key: altered"


def faults(store: Path, ref: str) -> Iterator[Fault]:
    """What is wrong with a finished artefact, file by file."""
    folder = store / ref
    try:
        manifest = open_artifact(folder).manifest
    except RetortError as error:
        yield Fault(ref, MANIFEST, f"unreadable or edited: {error}")
        return
    if order_is_sound(folder, ref):
        order = read_json(folder / SPEC, "")
        if not agree(manifest, order):
            yield Fault(ref, MANIFEST, "says something else than the work order: altered")
    else:
        yield Fault(ref, SPEC, ALTERED_ORDER)
    for name, about in manifest.files.items():
        if what := fault_of(folder / name, about):
            yield Fault(ref, name, what)


def fault_of(path: Path, about: dict) -> str:
    """What is wrong with a file, against its size and sum; empty if nothing is."""
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size < about["bytes"]:
        return f"truncated, {size} of {about['bytes']} bytes"
    return "" if sha256_of(path) == about["sha256"] else "altered"


def order_is_sound(folder: Path, ref: str) -> bool:
    """Whether the folder's work order gives the very key that it lies under."""
    try:
        order = read_json(folder / SPEC, "")
        parts = [order[name] for name in ("kind", "spec", "inputs", "code")]
        key = key_of(*parts, order.get("strict", ""))
    except (RetortError, KeyError, TypeError):
        return False
    return ref == f"{order['kind']}/{key}" and order.get("key") == key


def agree(manifest: Manifest, order: dict) -> bool:
    """Whether a manifest is of a work order."""
    inputs = {role: str(ref).partition("/")[2] for role, ref in order["inputs"].items()}
    mine = (manifest.kind, manifest.key, manifest.spec, manifest.inputs, manifest.code)
    return mine == (order["kind"], order["key"], order["spec"], inputs, order["code"])
