"""Planned artefacts with their keys, folders and inputs, and the job files of a plan."""

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
from pipeline.contracts.own_files import OWN_PACKAGE, is_own
from pipeline.errors import RetortError, describe_unreadable, explain_denied_reading
from pipeline.store.artefact import (
    JOB_FILE,
    MANIFEST_FILE,
    read_json,
    write_json,
)
from pipeline.store.code_revisions import collect_revisions, compute_fingerprint
from pipeline.store.own_sum import add_own_sum

SEED_SEPARATOR = ".seed"  # between a generator's name and one of its seeds
EPOCH_SEPARATOR = ".epoch"  # between the name of an evaluated model and the epoch of its weights
OWN_MODELS = f"{OWN_PACKAGE}.architectures."  # modules that build the user's own models
LEAST_FREE_BYTES = 200 * 2**20  # free bytes below which no run starts


@dataclass(frozen=True)
class PlannedArtefact:
    """An artefact as it is planned, before it is made."""

    kind: str
    name: str
    spec: dict
    inputs: dict[str, "PlannedArtefact"]
    components: tuple[
        str, ...
    ]  # modules whose REVISION is in the key, besides the components they declare
    outside_paths: dict[str, str] = field(default_factory=dict)  # paths of outside files: in no key
    run_settings: dict = field(default_factory=dict)  # how this job alone runs: in no key
    includes_fingerprint: bool = False  # whether the code's fingerprint is in the key

    @cached_property
    def code(self) -> dict[str, int | str]:
        """REVISION of every component, by module name."""
        return collect_revisions(*self.components)

    @cached_property
    def code_fingerprint(self) -> str:
        """The code's fingerprint if it is in the key, else an empty string."""
        return compute_fingerprint(*self.code) if self.includes_fingerprint else ""

    @cached_property
    def key(self) -> str:
        """The artefact's key, twelve hex digits."""
        inputs = {role: entry.ref for role, entry in self.inputs.items()}
        return compute_key(self.kind, self.spec, inputs, self.code, self.code_fingerprint)

    @cached_property
    def own_code(self) -> dict[str, int | str]:
        """Content of the user's own plug-ins that making it runs: its own, and its inputs' models.

        A finished model is built anew wherever it is used.
        """
        found = {module: digest for module, digest in self.code.items() if is_own(module)}
        for entry in self.inputs.values():
            models = {m: d for m, d in entry.own_code.items() if m.startswith(OWN_MODELS)}
            found |= models
        return found

    @cached_property
    def uses_plugins(self) -> bool:
        """Whether it, or anything that it is made from, was made by plug-ins of the user's own."""
        own = any(is_own(module) for module in self.code)
        return own or any(entry.uses_plugins for entry in self.inputs.values())

    @cached_property
    def ref(self) -> str:
        """`kind/key`, the artefact's folder in the store."""
        return f"{self.kind}/{self.key}"


def compute_key(kind: str, spec: dict, inputs: dict, code: dict, code_fingerprint: str) -> str:
    """The first 12 hex digits of the sha256 over everything that determines an artefact's bytes."""
    content = [kind, spec, inputs, code, *([code_fingerprint] if code_fingerprint else [])]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Plan:
    """The artefacts of one configuration, each after its inputs."""

    store: Path
    run: dict
    artefacts: dict[str, PlannedArtefact] = field(default_factory=dict)  # by ref
    refs_by_name: dict[tuple[str, str], str] = field(default_factory=dict)  # by (kind, name)
    strict_code: bool = False
    plugin_folders: tuple[str, ...] = ()

    def add_artefact(self, artefact: PlannedArtefact) -> PlannedArtefact:
        """Add an artefact and return it; the same content under a second name is one artefact.

        Raises:
            RetortError: its name cannot be a file name, or is that of other content.
        """
        if why := explain_bad_name(artefact.name, MAX_LABEL_BYTES):
            raise RetortError(
                f"{artefact.kind} {artefact.name[:40]!r}: the name {why}; shorten its parts"
            )
        if self.strict_code:
            artefact = replace(artefact, includes_fingerprint=True)
        if self.refs_by_name.get((artefact.kind, artefact.name), artefact.ref) != artefact.ref:
            raise RetortError(
                f"{artefact.kind} '{artefact.name}': two of the sections make one of this name; "
                "rename one of them"
            )
        kept = self.artefacts.setdefault(artefact.ref, artefact)
        self.refs_by_name[artefact.kind, artefact.name] = artefact.ref
        return kept

    def folder_path(self, ref: str) -> Path:
        """An artefact's folder."""
        return self.store / ref

    def manifest_path(self, ref: str) -> Path:
        """An artefact's manifest, which exists once it is finished."""
        return self.store / ref / MANIFEST_FILE

    def is_complete(self, ref: str) -> bool:
        """Whether an artefact is finished.

        Raises:
            RetortError: this user may not look into its folder.
        """
        with explain_denied_reading(self.manifest_path(ref)):
            return self.manifest_path(ref).exists()

    def describe_job(self, ref: str) -> dict:
        """The content of an artefact's ``spec.json``: everything that its job needs to know.

        Where plug-ins of the user's own are used, ``run`` says where they lie, and what those hold
        that the job runs.
        """
        artefact = self.artefacts[ref]
        run = {**self.run, **artefact.outside_paths, **artefact.run_settings}
        if artefact.uses_plugins:
            run["plugins"] = {"folders": list(self.plugin_folders), "content": artefact.own_code}
        return {
            "kind": artefact.kind,
            "name": artefact.name,
            "key": artefact.key,
            "spec": artefact.spec,
            "inputs": {role: e.ref for role, e in artefact.inputs.items()},
            "code": artefact.code,
            "strict": artefact.code_fingerprint,
            "run": run,
        }

    def list_targets(self) -> list[str]:
        """Manifests of the artefacts that are no other's input."""
        used = {entry.ref for e in self.artefacts.values() for entry in e.inputs.values()}
        return [str(self.manifest_path(ref)) for ref in self.artefacts if ref not in used]

    def list_shard_groups(self, ref: str) -> list[str]:
        """Shard ranges `a-b` of a bank's jobs; b is excluded."""
        shards, size = get_spec(self.artefacts[ref]).shards, self.run["shards_per_job"]
        return [f"{a}-{min(a + size, shards)}" for a in range(0, shards, size)]


def write_job_files(plan: Plan) -> None:
    """Write every missing ``spec.json`` and link each name in ``by-name`` to its artefact.

    Raises:
        RetortError: the store cannot be written to, or is nearly full.
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
        for ref in plan.artefacts:
            path, job = plan.folder_path(ref) / JOB_FILE, plan.describe_job(ref)
            if not path.exists() or (not plan.is_complete(ref) and runs_differently(path, job)):
                write_json(path, add_own_sum(job))
        for (kind, name), ref in plan.refs_by_name.items():
            update_link(plan.store / "by-name" / kind / name, Path("../..") / ref)
    except OSError as error:
        remedy = "make it writable, free some space, or set 'store:' to another folder"
        raise RetortError(f"store: {plan.store}: {error.strerror}; {remedy}") from error


def runs_differently(path: Path, job: dict) -> bool:
    """Whether an unfinished job file has other settings under ``run`` than today's.

    What the job makes is the same, but the paths of data and outside files may have changed.
    """
    written = read_json(path, "delete it and run again")
    return "run" in written and written["run"] != job["run"]


def find_existing_place(store: Path) -> Path:
    """The store, or its nearest parent that exists.

    Raises:
        RetortError: the path is not usable.
    """
    text, place = str(store), store
    if not text.isprintable() or {"{", "}"} & set(text):
        raise RetortError(
            f"store: {text!r}: braces and unprintable characters are no use; drop them"
        )
    try:
        while not (place.exists() or place.is_symlink()):
            place = place.parent
    except PermissionError as error:
        raise RetortError(f"store: {describe_unreadable(store)}") from error
    except OSError as error:
        raise RetortError(f"store: {text[:40]}…: {error.strerror}; name a shorter one") from error
    return place


def check_store(store: Path) -> None:
    """Refuse a store that no job could write to, before any job starts.

    Raises:
        RetortError: as in ``find_existing_place``, or what exists is no writable folder.
    """
    place = find_existing_place(store)
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
