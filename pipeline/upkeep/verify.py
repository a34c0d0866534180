"""Verb `verify`: checks the sum of every artefact's files, and its key against its content."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.reader import read_config
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import compute_key
from pipeline.progress import track_steps
from pipeline.store.artefact import (
    JOB_FILE,
    MANIFEST_FILE,
    Manifest,
    compute_sha256,
    open_artefact,
    read_json,
)
from pipeline.upkeep.listing import find_names, list_refs


@dataclass(frozen=True)
class Fault:
    """A file of an artefact that is not what it should be."""

    ref: str
    file: str
    problem: str


def run_verb(options: argparse.Namespace) -> None:
    """Check artefacts and print each fault; ``--mend`` has the next run make broken ones again.

    Raises:
        RetortError: an artefact is broken, and ``--mend`` was not given.
    """
    plan = make_plan(read_config(*options.configfile))
    store = plan.store
    every = list_refs(store) if options.all else plan.artefacts
    refs = [ref for ref in every if plan.is_complete(ref)]
    if len(refs) < len(every):
        print(f"{len(every) - len(refs)} artefacts are not finished, so not checked: see status")
    tracked = track_steps("artefact", refs, len(refs))
    found = [fault for ref in tracked for fault in find_faults(store, ref)]
    names = find_names(store)
    for fault in found:
        label = ", ".join(names.get(fault.ref, ["without a name"]))
        print(f"{store / fault.ref / fault.file}: {fault.problem} ({label})")
    broken = list(dict.fromkeys(fault.ref for fault in found))
    if not broken:
        print(f"{len(refs)} artefacts are intact")
        return
    targets = " ".join(str(plan.manifest_path(ref)) for ref in broken)
    if not options.mend:
        raise RetortError(
            f"{len(broken)} of {len(refs)} artefacts are broken; add --mend to have them made again"
        )
    for ref in broken:
        mend_artefact(store, ref, found)
    print(f"mended: what needs them makes them again; now: snakemake --cores all {targets}")


def mend_artefact(store: Path, ref: str, known_faults: list[Fault]) -> None:
    """Delete an artefact's manifest, and a job file that is not its key's, so that it is remade."""
    if Fault(ref, JOB_FILE, ALTERED_JOB) in known_faults:
        (store / ref / JOB_FILE).unlink()
    (store / ref / MANIFEST_FILE).unlink(missing_ok=True)


ALTERED_JOB = "is not the job file of this key: altered"


def find_faults(store: Path, ref: str) -> Iterator[Fault]:
    """Yield what is wrong with a finished artefact, file by file."""
    folder = store / ref
    try:
        manifest = open_artefact(folder).manifest
    except RetortError as error:
        yield Fault(ref, MANIFEST_FILE, f"unreadable or edited: {error}")
        return
    if is_job_sound(folder, ref):
        job = read_json(folder / JOB_FILE, "")
        if not manifest_matches_job(manifest, job):
            yield Fault(ref, MANIFEST_FILE, "differs from the job file: altered")
    else:
        yield Fault(ref, JOB_FILE, ALTERED_JOB)
    for name, about in manifest.files.items():
        if what := describe_file_fault(folder / name, about):
            yield Fault(ref, name, what)


def describe_file_fault(path: Path, expected: dict) -> str:
    """What is wrong with a file's size or sum; empty if nothing is."""
    if not path.is_file():
        return "missing"
    size = path.stat().st_size
    if size < expected["bytes"]:
        return f"truncated, {size} of {expected['bytes']} bytes"
    return "" if compute_sha256(path) == expected["sha256"] else "altered"


def is_job_sound(folder: Path, ref: str) -> bool:
    """Whether the folder's job file gives the key that the folder is named by."""
    try:
        job = read_json(folder / JOB_FILE, "")
        parts = [job[name] for name in ("kind", "spec", "inputs", "code")]
        key = compute_key(*parts, job.get("strict", ""))
    except (RetortError, KeyError, TypeError):
        return False
    return ref == f"{job['kind']}/{key}" and job.get("key") == key


def manifest_matches_job(manifest: Manifest, job: dict) -> bool:
    """Whether a manifest belongs to a job file."""
    inputs = {role: str(ref).partition("/")[2] for role, ref in job["inputs"].items()}
    mine = (manifest.kind, manifest.key, manifest.spec, manifest.inputs, manifest.code)
    return mine == (job["kind"], job["key"], job["spec"], inputs, job["code"])
