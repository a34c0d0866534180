"""Artefacts on disk: atomic writes, sums, and the manifest that marks one as finished."""

import hashlib
import json
import os
import platform
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.errors import COMMAND, RetortError, explain_denied_reading
from pipeline.store.code_revisions import compute_fingerprint
from pipeline.store.own_sum import add_own_sum, compute_manifest_sum

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
    """Hex sha256 of a file's bytes.

    Raises:
        RetortError: this user may not read it; the message names its owner.
    """
    with explain_denied_reading(path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def write_atomically(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, renamed to it at the end of the block.

    It is fsynced first. If the block raises, the temporary file is removed and ``path`` stays as it
    was. So a file under the final name is always complete. Its mode follows the umask, whatever the
    block's writer makes of it: safetensors writes files that only their owner may read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    try:
        temporary.touch()
        usual_mode = stat.S_IMODE(temporary.stat().st_mode)
        yield temporary
        if stat.S_IMODE(temporary.stat().st_mode) != usual_mode:
            temporary.chmod(usual_mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    with write_atomically(path) as temporary:
        temporary.write_text(text)


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically, keys sorted, so that equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def read_json(path: Path, remedy: str) -> dict:
    """A JSON object from a file.

    Raises:
        RetortError: the file is missing, truncated or not a JSON object; then the message ends
            with ``remedy``. Or this user may not read it; then it names the file's owner.
    """
    try:
        with explain_denied_reading(path):
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
    """The manifest of an artefact: identity, spec, inputs, files with sums, facts, code.

    Attributes:
        code: REVISION of each component that made the artefact.
        fingerprint: of these components' code at that time; empty if none was recorded.
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
    """The job that makes one artefact, read from ``spec.json``.

    Attributes:
        folder: of the artefact.
        inputs: folders of finished artefacts, by role.
        code: REVISION of each component that makes the artefact.
        run: how the job runs; no number depends on it.
        strict: fingerprint of that code if it is in the key, else empty.
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
        """The folder of checkpoints until the artefact is finished; created if missing."""
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
        """The path of a file of the artefact; its sum is checked once per process.

        Raises:
            RetortError: the manifest does not list it, or its bytes were altered.
        """
        if name not in self.manifest.files:
            listed = ", ".join(self.manifest.files)
            raise RetortError(f"{self.folder}: has no file '{name}'; it has {listed}")
        verify(self.folder / name, self.manifest.files[name]["sha256"])
        return self.folder / name


def describe_file(path: Path) -> dict:
    """Sum and size of a file, in the form of a manifest."""
    return {"sha256": compute_sha256(path), "bytes": path.stat().st_size}


@cache
def verify(path: Path, digest: str) -> None:
    """Checks a file against its sum.

    Raises:
        RetortError: it is missing or altered.
    """
    remedy = f"delete {path.parent / MANIFEST_FILE} and run again to make it anew"
    with explain_denied_reading(path):
        if not path.exists():
            raise RetortError(f"{path}: is missing; {remedy}")
    if compute_sha256(path) != digest:
        raise RetortError(f"{path}: does not match its manifest's sha256; {remedy}")


def open_artefact(folder: Path) -> Artefact:
    """The finished artefact of a folder.

    Raises:
        RetortError: the manifest is missing, not valid, or was edited.
    """
    folder = folder.resolve()
    path = folder / MANIFEST_FILE
    remedy = "delete it and run again"
    data = read_json(path, "the artefact is not finished: run 'retort run'")
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
    """Checks the types of a manifest's fields, and that its files are below its folder.

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


def read_job(folder: Path) -> Job:
    """The job in ``folder/spec.json``.

    Raises:
        RetortError: the file is missing or is not a job.
    """
    folder = folder.resolve()
    path = folder / JOB_FILE
    data = read_json(path, f"write it by 'retort run', or '{COMMAND} plan --write'")
    store = folder.parent.parent
    try:
        check_refs(data["inputs"])
        inputs = {role: store / ref for role, ref in data["inputs"].items()}
        names = ("kind", "name", "key", "spec", "code", "run")
        job_fields = {k: data[k] for k in names} | {"strict": data.get("strict", "")}
        return Job(folder=folder, inputs=inputs, **job_fields)
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        remedy = "delete it and run 'retort run' again"
        raise RetortError(f"{path}: is not a job ({error!r}); {remedy}") from error


def check_refs(refs: dict[str, str]) -> None:
    """Checks that every input is a `kind/key` of the same store.

    Raises:
        ValueError: naming the role.
    """
    for role, ref in refs.items():
        kind, _, key = ref.partition("/")
        if kind not in STAGES_BY_KIND or not KEY_PATTERN.fullmatch(key):
            raise ValueError(f"input '{role}' is {ref!r}, not <kind>/<key>")


def write_manifest(job: Job, manifest: Manifest) -> None:
    """Writes the manifest; from then on the artefact is finished."""
    write_json(job.folder / MANIFEST_FILE, add_own_sum(asdict(manifest)))
