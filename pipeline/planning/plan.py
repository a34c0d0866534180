"""From a configuration to its artefacts: keys, folders, inputs, work orders."""

import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipeline.config.names import LONGEST_LABEL, trouble
from pipeline.config.specs import spec_of
from pipeline.errors import RetortError
from pipeline.store.artifact import MANIFEST, SPEC, read_json, write_json
from pipeline.store.code_revisions import fingerprint, revisions

SEED = ".seed"  # between a generator's name and one of its seeds
EPOCH = ".epoch"  # between the name of an evaluated model and the epoch of its weights
ROOM = 200 * 2**20  # bytes below which no run is begun


@dataclass(frozen=True)
class Entry:
    """One planned artefact."""

    kind: str
    name: str
    spec: dict
    inputs: dict[str, "Entry"]
    components: tuple[str, ...]  # modules whose REVISION is in the key, with what they declare
    outside: dict[str, str] = field(default_factory=dict)  # places of outside files: in no key
    strictly: bool = False  # the code's fingerprint is in the key

    @cached_property
    def code(self) -> dict[str, int]:
        """REVISION of every component that makes it."""
        return revisions(*self.components)

    @cached_property
    def strict(self) -> str:
        """The code's fingerprint where the key holds it, else nothing."""
        return fingerprint(*self.code) if self.strictly else ""

    @cached_property
    def key(self) -> str:
        """Its name in the store."""
        inputs = {role: entry.ref for role, entry in self.inputs.items()}
        return key_of(self.kind, self.spec, inputs, self.code, self.strict)

    @cached_property
    def ref(self) -> str:
        """`kind/key`, its place in the store."""
        return f"{self.kind}/{self.key}"


def key_of(kind: str, spec: dict, inputs: dict, code: dict, strict: str) -> str:
    """The first 12 hex digits of the sha256 over everything that determines an artefact's bytes."""
    content = [kind, spec, inputs, code, *([strict] if strict else [])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Plan:
    """The artefacts of one configuration, inputs before what is made from them."""

    store: Path
    run: dict
    entries: dict[str, Entry] = field(default_factory=dict)  # ref -> entry
    names: dict[tuple[str, str], str] = field(default_factory=dict)  # (kind, name) -> ref
    strict_code: bool = False

    def add(self, entry: Entry) -> Entry:
        """Put an entry in; the same content under a second name is one artefact."""
        if why := trouble(entry.name, LONGEST_LABEL):
            raise RetortError(
                f"{entry.kind} {entry.name[:40]!r}: the name {why}; shorten its parts"
            )
        if self.strict_code:
            entry = replace(entry, strictly=True)
        kept = self.entries.setdefault(entry.ref, entry)
        self.names[entry.kind, entry.name] = entry.ref
        return kept

    def folder(self, ref: str) -> Path:
        """Where an artefact lies."""
        return self.store / ref

    def manifest(self, ref: str) -> Path:
        """The file that says it is complete."""
        return self.store / ref / MANIFEST

    def made(self, ref: str) -> bool:
        """Whether it is complete."""
        return self.manifest(ref).exists()

    def targets(self) -> list[str]:
        """Manifests that nothing else is made from."""
        used = {entry.ref for e in self.entries.values() for entry in e.inputs.values()}
        return [str(self.manifest(ref)) for ref in self.entries if ref not in used]

    def groups(self, ref: str) -> list[str]:
        """Shard ranges `a-b` of a bank's jobs."""
        shards, size = spec_of(self.entries[ref]).shards, self.run["shards_per_job"]
        return [f"{a}-{min(a + size, shards)}" for a in range(0, shards, size)]


def work_order(entry: Entry, run: dict) -> dict:
    """The content of ``spec.json``: everything a job needs to know."""
    return {
        "kind": entry.kind,
        "name": entry.name,
        "key": entry.key,
        "spec": entry.spec,
        "inputs": {role: e.ref for role, e in entry.inputs.items()},
        "code": entry.code,
        "strict": entry.strict,
        "run": {**run, **entry.outside},
    }


def write_orders(plan: Plan) -> None:
    """Write every missing ``spec.json`` and point the names at their artefacts.

    Raises:
        RetortError: the store cannot be written to, or is all but full.
    """
    try:
        plan.store.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(plan.store).free
        if free < ROOM and any(not plan.made(ref) for ref in plan.entries):
            raise RetortError(
                f"store: {plan.store} has {free / 2**20:.0f} MB left and a run wants at least "
                f"{ROOM / 2**20:.0f}; free some space, or set 'store:' to another folder"
            )
        for ref, entry in plan.entries.items():
            path, order = plan.folder(ref) / SPEC, work_order(entry, plan.run)
            if not path.exists() or (not plan.made(ref) and runs_otherwise(path, order)):
                write_json(path, order)
        for (kind, name), ref in plan.names.items():
            link(plan.store / "by-name" / kind / name, Path("../..") / ref)
    except OSError as error:
        remedy = "make it writable, free some space, or set 'store:' to another folder"
        raise RetortError(f"store: {plan.store}: {error.strerror}; {remedy}") from error


def runs_otherwise(path: Path, order: dict) -> bool:
    """Whether an unfinished work order runs in another way than today's: what it makes is the same.

    Places of data and of outside files may have moved since it was written.
    """
    written = read_json(path, "delete it and run again")
    return "run" in written and written["run"] != order["run"]


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


def link(path: Path, target: Path) -> None:
    """Point a symbolic link at a target, replacing an older one atomically."""
    if path.is_symlink() and path.readlink() == target:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".link.{platform.node()}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(target)
    fresh.replace(path)
