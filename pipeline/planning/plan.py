"""From a configuration to its artefacts: keys, folders, inputs, work orders."""

import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipeline.config.names import MAX_LABEL_BYTES, explain_bad_name
from pipeline.config.specs import get_spec
from pipeline.errors import RetortError
from pipeline.store.artefact import JOB_FILE, MANIFEST_FILE, read_json, write_json
from pipeline.store.code_revisions import collect_revisions, compute_fingerprint

SEED_SEPARATOR = ".seed"  # between a generator's name and one of its seeds
EPOCH_SEPARATOR = ".epoch"  # between the name of an evaluated model and the epoch of its weights
LEAST_FREE_BYTES = 200 * 2**20  # bytes below which no run is begun


@dataclass(frozen=True)
class PlannedArtefact:
    """One planned artefact."""

    kind: str
    name: str
    spec: dict
    inputs: dict[str, "PlannedArtefact"]
    components: tuple[str, ...]  # modules whose REVISION is in the key, with what they declare
    outside_paths: dict[str, str] = field(
        default_factory=dict
    )  # places of outside files: in no key
    includes_fingerprint: bool = False  # the code's fingerprint is in the key

    @cached_property
    def code(self) -> dict[str, int]:
        """REVISION of every component that makes it."""
        return collect_revisions(*self.components)

    @cached_property
    def code_fingerprint(self) -> str:
        """The code's fingerprint where the key holds it, else nothing."""
        return compute_fingerprint(*self.code) if self.includes_fingerprint else ""

    @cached_property
    def key(self) -> str:
        """Its name in the store."""
        inputs = {role: entry.ref for role, entry in self.inputs.items()}
        return compute_key(self.kind, self.spec, inputs, self.code, self.code_fingerprint)

    @cached_property
    def ref(self) -> str:
        """`kind/key`, its place in the store."""
        return f"{self.kind}/{self.key}"


def compute_key(kind: str, spec: dict, inputs: dict, code: dict, code_fingerprint: str) -> str:
    """The first 12 hex digits of the sha256 over everything that determines an artefact's bytes."""
    content = [kind, spec, inputs, code, *([code_fingerprint] if code_fingerprint else [])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Plan:
    """The artefacts of one configuration, inputs before what is made from them."""

    store: Path
    run: dict
    artefacts: dict[str, PlannedArtefact] = field(default_factory=dict)  # ref -> entry
    refs_by_name: dict[tuple[str, str], str] = field(default_factory=dict)  # (kind, name) -> ref
    strict_code: bool = False

    def add_artefact(self, artefact: PlannedArtefact) -> PlannedArtefact:
        """Put an entry in; the same content under a second name is one artefact."""
        if why := explain_bad_name(artefact.name, MAX_LABEL_BYTES):
            raise RetortError(
                f"{artefact.kind} {artefact.name[:40]!r}: the name {why}; shorten its parts"
            )
        if self.strict_code:
            artefact = replace(artefact, strictly=True)
        kept = self.artefacts.setdefault(artefact.ref, artefact)
        self.refs_by_name[artefact.kind, artefact.name] = artefact.ref
        return kept

    def folder_path(self, ref: str) -> Path:
        """Where an artefact lies."""
        return self.store / ref

    def manifest_path(self, ref: str) -> Path:
        """The file that says it is complete."""
        return self.store / ref / MANIFEST_FILE

    def is_complete(self, ref: str) -> bool:
        """Whether it is complete."""
        return self.manifest_path(ref).exists()

    def list_targets(self) -> list[str]:
        """Manifests that nothing else is made from."""
        used = {entry.ref for e in self.artefacts.values() for entry in e.inputs.values()}
        return [str(self.manifest_path(ref)) for ref in self.artefacts if ref not in used]

    def list_shard_groups(self, ref: str) -> list[str]:
        """Shard ranges `a-b` of a bank's jobs."""
        shards, size = get_spec(self.artefacts[ref]).shards, self.run["shards_per_job"]
        return [f"{a}-{min(a + size, shards)}" for a in range(0, shards, size)]


def describe_job(artefact: PlannedArtefact, run: dict) -> dict:
    """The content of ``spec.json``: everything a job needs to know."""
    return {
        "kind": artefact.kind,
        "name": artefact.name,
        "key": artefact.key,
        "spec": artefact.spec,
        "inputs": {role: e.ref for role, e in artefact.inputs.items()},
        "code": artefact.code,
        "strict": artefact.code_fingerprint,
        "run": {**run, **artefact.outside_paths},
    }


def write_job_files(plan: Plan) -> None:
    """Write every missing ``spec.json`` and point the names at their artefacts.

    Raises:
        RetortError: the store cannot be written to, or is all but full.
    """
    try:
        plan.store.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(plan.store).free
        if free < LEAST_FREE_BYTES and any(not plan.is_complete(ref) for ref in plan.artefacts):
            raise RetortError(
                f"store: {plan.store} has {free / 2**20:.0f} MB left and a run wants at least "
                f"{LEAST_FREE_BYTES / 2**20:.0f}; free some space, or set 'store:' to another "
                f"folder"
            )
        for ref, entry in plan.artefacts.items():
            path, job = plan.folder_path(ref) / JOB_FILE, describe_job(entry, plan.run)
            if not path.exists() or (not plan.is_complete(ref) and runs_differently(path, job)):
                write_json(path, job)
        for (kind, name), ref in plan.refs_by_name.items():
            update_link(plan.store / "by-name" / kind / name, Path("../..") / ref)
    except OSError as error:
        remedy = "make it writable, free some space, or set 'store:' to another folder"
        raise RetortError(f"store: {plan.store}: {error.strerror}; {remedy}") from error


def runs_differently(path: Path, job: dict) -> bool:
    """Whether an unfinished work order runs in another way than today's: what it makes is the same.

    Places of data and of outside files may have moved since it was written.
    """
    written = read_json(path, "delete it and run again")
    return "run" in written and written["run"] != job["run"]


def check_store(store: Path) -> None:
    """Refuse a store that no job could write to, before any is planned.

    Raises:
        RetortError: the nearest folder that exists is none, or is not writable.
    """
    text, place = str(store), store
    if not text.isprintable() or {"{", "}"} & set(text):
        raise RetortError(
            f"store: {text!r}: braces and unprintable characters are no use; drop them"
        )
    try:
        while not (place.exists() or place.is_symlink()):
            place = place.parent
    except OSError as error:
        raise RetortError(f"store: {text[:40]}…: {error.strerror}; name a shorter one") from error
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        what = "is not writable" if place.is_dir() else "is not a folder"
        raise RetortError(f"store: {store}: {place} {what}; set 'store:' to another folder")


def update_link(path: Path, target: Path) -> None:
    """Point a symbolic link at a target, replacing an older one atomically."""
    if path.is_symlink() and path.readlink() == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".link.{platform.node()}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)
