"""Verbs `store export` and `store import`: carry artefacts between stores as a checked tar."""

import argparse
import errno
import os
import platform
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config.names import MAX_LABEL_BYTES, explain_bad_name
from pipeline.config.reader import read_config
from pipeline.errors import RetortError, describe_unreadable, find_denied_place
from pipeline.planning.plan import update_link
from pipeline.progress import track_steps
from pipeline.store.artefact import (
    JOB_FILE,
    KEY_PATTERN,
    MANIFEST_FILE,
    STAGES_BY_KIND,
    is_below_folder,
    open_artefact,
    write_atomically,
)
from pipeline.store.attempt_cost import read_attempt_record
from pipeline.store.lease import hold_lease
from pipeline.upkeep.listing import (
    NAMES_FOLDER,
    collect_with_inputs,
    count_bytes,
    find_artefacts,
    format_bytes,
    list_refs,
)
from pipeline.upkeep.verify import find_faults

ATTEMPTS_FOLDER = "attempts"
TAR_ERRORS = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError)


def run_verb(options: argparse.Namespace) -> None:
    """Export or import artefacts and print which."""
    store = Path(read_config(*options.configfile).store)
    if options.way == "export":
        refs = [ref for word in options.artefacts for ref in find_artefacts(store, word)]
        refs = (
            collect_with_inputs(store, refs) if options.with_inputs else list(dict.fromkeys(refs))
        )
        export_artefacts(store, refs, options.to)
        print("\n".join(refs))
        print(f"{len(refs)} artefacts, {format_bytes(count_bytes(options.to))}, in {options.to}")
        return
    for ref, made in import_artefacts(store, options.file).items():
        print(f"{ref}: {'imported' if made else 'was here already, left as it is'}")


def export_artefacts(store: Path, refs: list[str], tar_path: Path) -> None:
    """Write finished artefacts into a tar; the same artefacts give the same bytes.

    Raises:
        RetortError: the file exists, or an artefact is unfinished or broken.
    """
    if tar_path.exists():
        raise RetortError(f"{tar_path}: exists already; name another file")
    for ref in track_steps("artefact", refs, len(refs)):
        for fault in find_faults(store, ref):
            remedy = "finish or mend it first: see the verbs status and verify"
            raise RetortError(f"{store / ref / fault.file}: {fault.problem}; {remedy}")
    with write_atomically(tar_path) as temporary, tarfile.open(temporary, "w") as tar:
        for ref in track_steps("artefact", refs, len(refs)):
            for name in [*list_artefact_files(store / ref), MANIFEST_FILE]:
                tar.add(store / ref / name, f"{ref}/{name}", recursive=False, filter=strip_metadata)


def list_artefact_files(folder: Path) -> list[str]:
    """The files of a finished artefact, without its manifest."""
    records = sorted(
        f"{ATTEMPTS_FOLDER}/{path.name}" for path in (folder / ATTEMPTS_FOLDER).glob("*.json")
    )
    return [JOB_FILE, *open_artefact(folder).manifest.files, *records]


def strip_metadata(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The member without owner and time, so that equal artefacts give equal tars."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "retort"
    member.mode = 0o644
    return member


def import_artefacts(store: Path, tar_path: Path) -> dict[str, bool]:
    """Bring a tar's artefacts into the store and return for each whether it is new there.

    All are unpacked in a folder of the store and checked before the first is put in place.

    Raises:
        RetortError: the tar is cut, is no export, or holds a damaged artefact.
    """
    with open_staging_folder(store) as staging_folder:
        unpack_tar(tar_path, staging_folder)
        refs = list_refs(staging_folder)
        if not refs:
            raise RetortError(f"{tar_path}: holds no artefact; make it with 'store export'")
        for ref in track_steps("artefact", refs, len(refs)):
            check_artefact(staging_folder, ref, tar_path)
        return {ref: install_artefact(staging_folder, store, ref) for ref in refs}


@contextmanager
def open_staging_folder(store: Path) -> Iterator[Path]:
    """A folder of this process inside the store; it is deleted afterwards."""
    folder = store / f".import-{platform.node()}-{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def unpack_tar(tar_path: Path, staging_folder: Path) -> None:
    """Write the tar's files below a folder, none of them elsewhere.

    Raises:
        RetortError: it is not there, is no tar, or has a member that no export has.
    """
    if not tar_path.is_file():
        raise RetortError(f"{tar_path}: no such file; name a tar that 'store export' wrote")
    if find_denied_place(tar_path):
        raise RetortError(describe_unreadable(tar_path))
    try:
        with tarfile.open(tar_path, "r:") as tar:
            for member in tar:
                write_member(tar, member, tar_path, staging_folder)
    except TAR_ERRORS as error:
        if isinstance(error, OSError) and error.filename != str(tar_path) and error.errno:
            raise  # an error of the store, not of the tar
        what = f"is cut or no tar ({' '.join(str(error).split())})"
        raise RetortError(f"{tar_path}: {what}; export it again") from error


def write_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, tar_path: Path, staging_folder: Path
) -> None:
    """Write one member of a tar.

    Raises:
        RetortError: it is no plain file at `<kind>/<key>/…`, or is there twice.
    """
    kind, _, rest = member.name.partition("/")
    key, _, name = rest.partition("/")
    fits = (
        kind in STAGES_BY_KIND
        and KEY_PATTERN.fullmatch(key)
        and is_below_folder(name)
        and not name.startswith(".")
    )
    if not (member.isreg() and fits):
        raise RetortError(
            f"{tar_path}: member {member.name!r} is none of an export's; not imported"
        )
    path = staging_folder / member.name
    if path.exists():
        raise RetortError(f"{tar_path}: member {member.name!r} is there twice; not imported")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
        target.flush()
        os.fsync(target.fileno())
    if path.stat().st_size != member.size:
        raise tarfile.ReadError("unexpected end of data")


def check_artefact(staging_folder: Path, ref: str, tar_path: Path) -> None:
    """Refuse an artefact that is damaged or has files that its manifest does not list.

    Raises:
        RetortError: names the first fault.
    """
    folder, remedy = staging_folder / ref, "not imported; export it again"
    for fault in find_faults(staging_folder, ref):
        raise RetortError(f"{tar_path}: {ref}/{fault.file}: {fault.problem}; {remedy}")
    known = {MANIFEST_FILE, *list_artefact_files(folder)}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if foreign := sorted(found - known):
        raise RetortError(f"{tar_path}: {ref}/{foreign[0]}: is not of the artefact; {remedy}")
    for path in sorted((folder / ATTEMPTS_FOLDER).glob("*.json")):
        if read_attempt_record(path) is None:
            raise RetortError(f"{tar_path}: {ref}/{ATTEMPTS_FOLDER}: unreadable record; {remedy}")


def install_artefact(staging_folder: Path, store: Path, ref: str) -> bool:
    """Put a checked artefact in its place; False if the store already has it finished."""
    target = store / ref
    manifest = open_artefact(staging_folder / ref).manifest
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(staging_folder / ref, target)
        is_new = True
    except OSError as error:  # a plan has written a job file there, or jobs have begun
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        with hold_lease(target, target / MANIFEST_FILE) as is_new:
            if is_new:
                for name in [*list_artefact_files(staging_folder / ref), MANIFEST_FILE]:
                    (target / name).parent.mkdir(exist_ok=True)
                    os.replace(staging_folder / ref / name, target / name)
    name = store / NAMES_FOLDER / manifest.kind / manifest.name
    if not explain_bad_name(manifest.name, MAX_LABEL_BYTES) and not name.is_symlink():
        update_link(name, Path("../..") / ref)
    return is_new
