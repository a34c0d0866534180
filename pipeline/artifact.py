"""Artefacts on disk: atomic writes, sums, and the manifest that says «complete»."""

import hashlib
import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import RetortError

MANIFEST = "manifest.json"
SPEC = "spec.json"
STAGES = {  # kind -> the stage that makes it, in the order of the graph
    "dataset": "prepare_data",
    "teacher": "train_teacher",
    "discretizer": "train_discretizer",
    "bank": "build_bank",
    "generator": "warm_generator",
    "student": "distill",
    "evaluation": "evaluate",
    "report": "report",
}


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
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
    with replacing(path) as temporary:
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
    except (OSError, ValueError) as error:
        raise RetortError(f"{path}: is not readable JSON ({error}); {remedy}") from error
    if not isinstance(value, dict):
        raise RetortError(f"{path}: a JSON object is expected; {remedy}")
    return value


@dataclass(frozen=True)
class Manifest:
    """What an artefact is: identity, spec, inputs, files with sums, facts, code."""

    kind: str
    name: str
    key: str
    spec: dict
    inputs: dict[str, str]
    files: dict[str, dict]
    facts: dict
    code: dict


@dataclass(frozen=True)
class Job:
    """One stage's work order, read from ``spec.json``; inputs are folders of finished artefacts."""

    folder: Path
    kind: str
    name: str
    key: str
    spec: dict
    inputs: dict[str, Path]
    code: dict
    run: dict = field(default_factory=dict)

    @property
    def state(self) -> Path:
        """Where checkpoints live until the artefact is complete."""
        path = self.folder / "state"
        path.mkdir(exist_ok=True)
        return path

    def manifest(self, files: list[str], facts: dict) -> Manifest:
        """The manifest of this job's finished files, named relative to its folder."""
        return Manifest(
            kind=self.kind,
            name=self.name,
            key=self.key,
            spec=self.spec,
            inputs={role: path.name for role, path in self.inputs.items()},
            files={name: describe(self.folder / name) for name in sorted(files)},
            facts=facts,
            code=self.code,
        )


@dataclass(frozen=True)
class Artifact:
    """A finished artefact: its folder and manifest."""

    folder: Path
    manifest: Manifest

    def path(self, name: str) -> Path:
        """A file of the artefact, its sum checked once a process.

        Raises:
            RetortError: the manifest does not list it, or its bytes were altered.
        """
        if name not in self.manifest.files:
            listed = ", ".join(self.manifest.files)
            raise RetortError(f"{self.folder}: has no file '{name}'; it has {listed}")
        verify(self.folder / name, self.manifest.files[name]["sha256"])
        return self.folder / name


def describe(path: Path) -> dict:
    """Sum and size of a file, as manifests list them."""
    return {"sha256": sha256_of(path), "bytes": path.stat().st_size}


@cache
def verify(path: Path, digest: str) -> None:
    """Check a file against its sum.

    Raises:
        RetortError: it is missing or altered.
    """
    remedy = f"delete {path.parent / MANIFEST} and run again to make it anew"
    if not path.exists():
        raise RetortError(f"{path}: is missing; {remedy}")
    if sha256_of(path) != digest:
        raise RetortError(f"{path}: does not match its manifest's sha256; {remedy}")


def open_artifact(folder: Path) -> Artifact:
    """A finished artefact.

    Raises:
        RetortError: there is no manifest, or it is not one.
    """
    folder = folder.resolve()
    path = folder / MANIFEST
    data = read_json(path, "the artefact is not finished: run snakemake")
    try:
        return Artifact(folder, Manifest(**data))
    except TypeError as error:
        remedy = "delete it and run again"
        raise RetortError(f"{path}: is not a manifest ({error}); {remedy}") from error


def read_job(folder: Path) -> Job:
    """The work order in ``folder/spec.json``.

    Raises:
        RetortError: it is missing or is not a work order.
    """
    folder = folder.resolve()
    path = folder / SPEC
    data = read_json(path, "write it with a snakemake run, or 'python -m pipeline plan --write'")
    store = folder.parent.parent
    try:
        inputs = {role: store / ref for role, ref in data["inputs"].items()}
        names = ("kind", "name", "key", "spec", "code", "run")
        return Job(folder=folder, inputs=inputs, **{k: data[k] for k in names})
    except (KeyError, AttributeError, TypeError) as error:
        remedy = "delete it and run snakemake again"
        raise RetortError(f"{path}: is not a work order ({error!r}); {remedy}") from error


def finish(job: Job, manifest: Manifest) -> None:
    """Write the manifest: from here on the artefact exists."""
    write_json(job.folder / MANIFEST, asdict(manifest))
