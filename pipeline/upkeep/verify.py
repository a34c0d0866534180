"""Verb `verify`: checks the sum of every artefact's files, and its key against its content.

Every file of a finished artefact is checked, but for those in ``HINTS``, from which no number is
computed.
"""

import argparse
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.banks.shards import describe_shard_fault, sidecar_path
from pipeline.config.reader import read_config
from pipeline.errors import RetortError, describe_unreadable, find_denied_place
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import Plan, compute_key
from pipeline.progress import track_steps
from pipeline.store.artefact import (
    JOB_FILE,
    MANIFEST_FILE,
    Manifest,
    compute_sha256,
    open_artefact,
    read_json,
    write_json,
)
from pipeline.store.own_sum import add_own_sum, has_own_sum
from pipeline.upkeep.listing import find_names, list_refs

HINTS = {  # files that are not checked, below an artefact's folder -> why they may be wrong
    "attempts/*": "logs and costs of each attempt; no result depends on them",
    "groups/*.json": "tell Snakemake that a bank's shards were made; the bank's job looks at each",
}


@dataclass(frozen=True)
class Fault:
    """A file of an artefact that is not what it should be, or that this user may not read."""

    ref: str
    file: str
    problem: str
    is_denied: bool = False


def run_verb(options: argparse.Namespace) -> None:
    """Check artefacts and print each fault; ``--mend`` has the next run make broken ones again.

    Raises:
        RetortError: an artefact is broken and ``--mend`` was not given, or may not be read.
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
    denied = {fault.ref for fault in found if fault.is_denied}
    broken = list(dict.fromkeys(fault.ref for fault in found if fault.ref not in denied))
    if broken:
        report_broken(plan, broken, found, len(refs), options)
    if denied:
        raise RetortError(
            f"{len(denied)} of {len(refs)} artefacts may not be read; their owner has to allow it"
        )
    if not broken:
        print(f"{len(refs)} artefacts are intact")


def report_broken(
    plan: Plan,
    broken: list[str],
    found: list[Fault],
    checked_count: int,
    options: argparse.Namespace,
) -> None:
    """Mend broken artefacts and print the command that makes them again.

    Raises:
        RetortError: ``options.mend`` is not set.
    """
    if not options.mend:
        raise RetortError(
            f"{len(broken)} of {checked_count} artefacts are broken; add --mend to have them made "
            "again"
        )
    for ref in broken:
        mend_artefact(plan, ref, found)
    unmade = [ref for ref in broken if not plan.is_complete(ref)]
    print("mended: what needs them makes them again" if unmade else "mended")
    if known := [str(plan.manifest_path(ref)) for ref in unmade if ref in plan.artefacts]:
        command = ["retort", "run", *known, "--configfile", *map(str, options.configfile)]
        print(f"now: {shlex.join(command)}")
    if others := len(unmade) - len(known):
        print(f"{others} are of other configurations; run these")


def mend_artefact(plan: Plan, ref: str, known_faults: list[Fault]) -> None:
    """Delete an artefact's manifest, and a job file that is not its key's, so that it is remade.

    If only the ``name`` or ``run`` of its job file is wrong, they are written anew, and the
    artefact stays.
    """
    store = plan.store
    if [fault for fault in known_faults if fault.ref == ref] == [Fault(ref, JOB_FILE, ALTERED_RUN)]:
        rewrite_job_file(plan, ref)
        return
    if Fault(ref, JOB_FILE, ALTERED_JOB) in known_faults:
        (store / ref / JOB_FILE).unlink()
    (store / ref / MANIFEST_FILE).unlink(missing_ok=True)


def rewrite_job_file(plan: Plan, ref: str) -> None:
    """Write a finished artefact's job file as the plan has it, or with today's ``run``.

    Where the user's own plug-ins made it, ``run`` goes on saying in which folders they lie.
    """
    path = plan.store / ref / JOB_FILE
    if ref in plan.artefacts:
        job = plan.describe_job(ref)
    else:
        job = {name: v for name, v in read_json(path, "").items() if name in JOB_FIELDS}
        before = job.get("run")
        own = before.get("plugins") if isinstance(before, dict) else None
        job["run"] = {**plan.run, **({"plugins": own} if own else {})}
    name = open_artefact(plan.store / ref).manifest.name
    write_json(path, add_own_sum(job | {"name": name}))


JOB_FIELDS = {"kind", "name", "key", "spec", "inputs", "code", "strict", "run"}
ALTERED_RUN = "its 'name' or 'run' was altered, on which no number depends"
ALTERED_JOB = "is not the job file of this key: altered"


def find_faults(store: Path, ref: str) -> Iterator[Fault]:
    """Yield what is wrong with a finished artefact, file by file."""
    folder = store / ref
    if find_denied_place(folder / MANIFEST_FILE):
        yield Fault(ref, MANIFEST_FILE, describe_denial(folder / MANIFEST_FILE), True)
        return
    try:
        manifest = open_artefact(folder).manifest
    except RetortError as error:
        yield Fault(ref, MANIFEST_FILE, f"unreadable or edited: {error}")
        return
    if find_denied_place(folder / JOB_FILE):
        yield Fault(ref, JOB_FILE, describe_denial(folder / JOB_FILE), True)
    elif is_job_sound(folder, ref):
        job = read_json(folder / JOB_FILE, "")
        if not manifest_matches_job(manifest, job):
            yield Fault(ref, MANIFEST_FILE, "differs from the job file: altered")
        elif not has_own_sum(job, JOB_FIELDS):
            yield Fault(ref, JOB_FILE, ALTERED_RUN)
    else:
        yield Fault(ref, JOB_FILE, ALTERED_JOB)
    for name, about in manifest.files.items():
        if find_denied_place(folder / name):
            yield Fault(ref, name, describe_denial(folder / name), True)
        elif what := describe_file_fault(folder / name, about):
            yield Fault(ref, name, what)
        elif manifest.kind == "bank":
            yield from find_sidecar_faults(folder, ref, name)


def find_sidecar_faults(folder: Path, ref: str, shard: str) -> Iterator[Fault]:
    """Yield the fault of an intact shard's sidecar; an imported bank has none, and needs none."""
    sidecar = sidecar_path(folder / shard)
    if not sidecar.exists():
        return
    if find_denied_place(sidecar):
        yield Fault(ref, sidecar.name, describe_denial(sidecar), True)
    elif describe_shard_fault(folder / shard, folder.name):
        yield Fault(ref, sidecar.name, f"is not the sidecar of {shard}: altered")


def describe_denial(path: Path) -> str:
    """What denies reading a file, its owner and the remedy, without the file's own path."""
    return describe_unreadable(path).removeprefix(f"{path}: ")


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
