"""Artefacts on disk: atomic writes, sums, and the manifest that says «complete»."""

import hashlib
import json
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import RetortError
from pipeline.store.code_revisions import compute_fingerprint

MANIFEST_FILE = "manifest.json"
JOB_FILE = "spec.json"
KEY_PATTERN = re.compile(r"[0-9a-f]{12}")
DROPPED = ("modules",)  # fields of manifests that older versions wrote
STAGES_BY_KIND = {  # kind -> the stage that makes it, in the order of the graph
    "dataset": "prepare_data",
    "teacher": "train_teacher",
    "discretizer": "train_discretizer",
    "bank": "build_bank",
    "generator": "warm_generator",
    "student": "distill",
    "evaluation": "evaluate",
    "report": "report",
}


def compute_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that is fsynced and renamed to it if nothing fails.

    A block that raises leaves neither file: what stands under the final name is whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, keys sorted, so that equal values are equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> dict:
    """A JSON object from a file.

    Raises:
        RetortError: missing, cut or no object; the message ends with ``remedy``.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RetortError(f"{path}: is missing; {remedy}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise RetortError(f"{path}: is not readable JSON ({error}); {remedy}") from error
    if not isinstance(value, dict):
        raise RetortError(f"{path}: a JSON object is expected; {remedy}")
    return value


@dataclass(frozen=True)
class Manifest:
    """What an artefact is: identity, spec, inputs, files with sums, facts, code.

    Attributes:
        code: REVISION of each component that made it.
        fingerprint: of all of them as they were; empty where it was not taken.
    """

    kind: str
    name: str
    key: str
    spec: dict
    inputs: dict[str, str]
    files: dict[str, dict]
    facts: dict
    code: dict
    fingerprint: str = ""


@dataclass(frozen=True)
class Job:
    """One stage's work order, read from ``spec.json``; inputs are folders of finished artefacts.

    Attributes:
        code: REVISION of each component that makes it.
        strict: the fingerprint of that code, where the key holds it.
    """

    folder: Path
    kind: str
    name: str
    key: str
    spec: dict
    inputs: dict[str, Path]
    code: dict
    run: dict = field(default_factory=dict)
    strict: str = ""

    @property
    def state_folder(self) -> Path:
        """Where checkpoints live until the artefact is complete."""
        path = self.folder / "state"
        path.mkdir(exist_ok=True)
        return path

    def build_manifest(self, files: list[str], facts: dict) -> Manifest:
        """The manifest of this job's finished files, named relative to its folder."""
        return Manifest(
            kind=self.kind,
            name=self.name,
            key=self.key,
            spec=self.spec,
            inputs={role: path.name for role, path in self.inputs.items()},
            files={name: describe_file(self.folder / name) for name in sorted(files)},
            facts=facts,
            code=self.code,
            fingerprint=compute_fingerprint(*self.code) if self.code else "",
        )


@dataclass(frozen=True)
class Artefact:
    """A finished artefact: its folder and manifest."""

    folder: Path
    manifest: Manifest

    def get_verified_path(self, name: str) -> Path:
        """A file of the artefact, its sum checked once a process.

        Raises:
            RetortError: the manifest does not list it, or its bytes were altered.
        """
        if name not in self.manifest.files:
            listed = ", ".join(self.manifest.files)
            raise RetortError(f"{self.folder}: has no file '{name}'; it has {listed}")
        verify(self.folder / name, self.manifest.files[name]["sha256"])
        return self.folder / name


def describe_file(path: Path) -> dict:
    """Sum and size of a file, as manifests list them."""
    return {"sha256": compute_sha256(path), "bytes": path.stat().st_size}


@cache
def verify(path: Path, digest: str) -> None:
    """Check a file against its sum.

    Raises:
        RetortError: it is missing or altered.
    """
    remedy = f"delete {path.parent / MANIFEST_FILE} and run again to make it anew"
    if not path.exists():
        raise RetortError(f"{path}: is missing; {remedy}")
    if compute_sha256(path) != digest:
        raise RetortError(f"{path}: does not match its manifest's sha256; {remedy}")


def open_artefact(folder: Path) -> Artefact:
    """A finished artefact.

    Raises:
        RetortError: there is no manifest, or it is not one.
    """
    folder = folder.resolve()
    path = folder / MANIFEST_FILE
    remedy = "delete it and run again"
    data = read_json(path, "the artefact is not finished: run snakemake")
    stored_sum = data.pop("sum", None)
    try:
        fields = {name: value for name, value in data.items() if name not in DROPPED}
        manifest = Manifest(**fields)
        check_manifest_types(manifest)
    except (TypeError, ValueError) as error:
        raise RetortError(f"{path}: is not a manifest ({error}); {remedy}") from error
    if stored_sum not in (None, compute_manifest_sum(data)):
        raise RetortError(f"{path}: was edited, its own sum differs; {remedy}")
    return Artefact(folder, manifest)


def check_manifest_types(manifest: Manifest) -> None:
    """Refuse fields of other types than a manifest's, and files that are not below its folder.

    Raises:
        TypeError, ValueError: naming the field or file.
    """
    types = {"kind": str, "name": str, "key": str, "fingerprint": str}
    for field_name, value in vars(manifest).items():
        if not isinstance(value, types.get(field_name, dict)):
            raise TypeError(f"'{field_name}' is a {type(value).__name__}")
    for name, about in manifest.files.items():
        if not is_below_folder(name):
            raise ValueError(f"file {name!r} is not below its folder")
        has_size = isinstance(about, dict) and isinstance(about.get("bytes"), int)
        if not (has_size and isinstance(about.get("sha256"), str)):
            raise TypeError(f"file {name!r} has no sum or size")


def is_below_folder(name: str) -> bool:
    """Whether a relative path stays below the folder that it is relative to."""
    parts = name.split("/")
    return "\0" not in name and not {"", ".", ".."} & set(parts)


def compute_manifest_sum(manifest: dict) -> str:
    """The sum that a manifest bears of all its other fields."""
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def read_job(folder: Path) -> Job:
    """The work order in ``folder/spec.json``.

    Raises:
        RetortError: it is missing or is not a work order.
    """
    folder = folder.resolve()
    path = folder / JOB_FILE
    data = read_json(path, "write it with a snakemake run, or 'python -m pipeline plan --write'")
    store = folder.parent.parent
    try:
        check_refs(data["inputs"])
        inputs = {role: store / ref for role, ref in data["inputs"].items()}
        names = ("kind", "name", "key", "spec", "code", "run")
        job_fields = {k: data[k] for k in names} | {"strict": data.get("strict", "")}
        return Job(folder=folder, inputs=inputs, **job_fields)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        remedy = "delete it and run snakemake again"
        raise RetortError(f"{path}: is not a work order ({error!r}); {remedy}") from error


def check_refs(refs: dict[str, str]) -> None:
    """Refuse inputs that are not `kind/key` in the same store.

    Raises:
        ValueError: naming the role.
    """
    for role, ref in refs.items():
        kind, _, key = ref.partition("/")
        if kind not in STAGES_BY_KIND or not KEY_PATTERN.fullmatch(key):
            raise ValueError(f"input '{role}' is {ref!r}, not <kind>/<key>")


def write_manifest(job: Job, manifest: Manifest) -> None:
    """Write the manifest: from here on the artefact exists."""
    data = asdict(manifest)
    write_json(job.folder / MANIFEST_FILE, data | {"sum": compute_manifest_sum(data)})
