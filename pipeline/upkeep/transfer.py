"""Verbs `store export` and `store import`: artefacts carried between stores, checked on arrival."""

import argparse
import errno
import os
import platform
import shutil
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.config.names import LONGEST_LABEL, trouble
from pipeline.config.reader import read
from pipeline.errors import RetortError
from pipeline.planning.plan import link
from pipeline.store.artifact import KEY, MANIFEST, SPEC, STAGES, below, open_artifact, replacing
from pipeline.store.attempt_cost import cost_of
from pipeline.store.lease import leased
from pipeline.upkeep.listing import NAMES, amount, find, refs_in, size_of, with_inputs
from pipeline.upkeep.verify import faults

ATTEMPTS = "attempts"
UNREADABLE = (tarfile.TarError, EOFError, OSError, ValueError, OverflowError)


def show(options: argparse.Namespace) -> None:
    """Export or import, and say what was carried."""
    store = Path(read(options.configfile).store)
    if options.way == "export":
        refs = [ref for word in options.artefacts for ref in find(store, word)]
        refs = with_inputs(store, refs) if options.with_inputs else list(dict.fromkeys(refs))
        export(store, refs, options.to)
        print("\n".join(refs))
        print(f"{len(refs)} artefacts, {amount(size_of(options.to))}, in {options.to}")
        return
    for ref, made in fetch(store, options.file).items():
        print(f"{ref}: {'imported' if made else 'was here already, left as it is'}")


def export(store: Path, refs: list[str], to: Path) -> None:
    """Write finished artefacts into a tar, the same bytes every time.

    Raises:
        RetortError: the file exists, or an artefact is unfinished or broken.
    """
    if to.exists():
        raise RetortError(f"{to}: exists already; name another file")
    for ref in refs:
        for fault in faults(store, ref):
            remedy = "make it whole first: see the verbs status and verify"
            raise RetortError(f"{store / ref / fault.file}: {fault.what}; {remedy}")
    with replacing(to) as temporary, tarfile.open(temporary, "w") as tar:
        for ref in refs:
            for name in [*contents(store / ref), MANIFEST]:
                tar.add(store / ref / name, f"{ref}/{name}", recursive=False, filter=plain)


def contents(folder: Path) -> list[str]:
    """The files that make up a finished artefact, its manifest aside."""
    records = sorted(f"{ATTEMPTS}/{path.name}" for path in (folder / ATTEMPTS).glob("*.json"))
    return [SPEC, *open_artifact(folder).manifest.files, *records]


def plain(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """A member without owner and time, so that equal artefacts are equal tars."""
    member.uid = member.gid = member.mtime = 0
    member.uname = member.gname = "retort"
    member.mode = 0o644
    return member


def fetch(store: Path, file: Path) -> dict[str, bool]:
    """Bring a tar's artefacts into the store; returns whether each is new here.

    All are unpacked beside the store's artefacts and checked before the first is put in place.

    Raises:
        RetortError: the tar is cut, holds what no export holds, or an artefact is not whole.
    """
    with staging(store) as place:
        unpack(file, place)
        refs = refs_in(place)
        if not refs:
            raise RetortError(f"{file}: holds no artefact; make it with 'store export'")
        for ref in refs:
            check(place, ref, file)
        return {ref: settle(place, store, ref) for ref in refs}


@contextmanager
def staging(store: Path) -> Iterator[Path]:
    """A folder of this process inside the store, gone afterwards."""
    place = store / f".import-{platform.node()}-{os.getpid()}"
    place.mkdir(parents=True)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def unpack(file: Path, place: Path) -> None:
    """Write the tar's files below a folder, none of them elsewhere.

    Raises:
        RetortError: it is no tar, or has a member that no export has.
    """
    try:
        with tarfile.open(file, "r:") as tar:
            for member in tar:
                write(tar, member, file, place)
    except UNREADABLE as error:
        if isinstance(error, OSError) and error.filename != str(file) and error.errno:
            raise  # the store's trouble, not the tar's
        what = f"is cut or no tar ({' '.join(str(error).split())})"
        raise RetortError(f"{file}: {what}; export it again") from error


def write(tar: tarfile.TarFile, member: tarfile.TarInfo, file: Path, place: Path) -> None:
    """Write one member of a tar.

    Raises:
        RetortError: it is no plain file at `<kind>/<key>/…`, or is there twice.
    """
    kind, _, rest = member.name.partition("/")
    key, _, name = rest.partition("/")
    fits = kind in STAGES and KEY.fullmatch(key) and below(name) and not name.startswith(".")
    if not (member.isreg() and fits):
        raise RetortError(f"{file}: member {member.name!r} is none of an export's; not imported")
    path = place / member.name
    if path.exists():
        raise RetortError(f"{file}: member {member.name!r} is there twice; not imported")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tar.extractfile(member) as source, path.open("wb") as target:
        shutil.copyfileobj(source, target, 2**20)
        target.flush()
        os.fsync(target.fileno())
    if path.stat().st_size != member.size:
        raise tarfile.ReadError("unexpected end of data")


def check(place: Path, ref: str, file: Path) -> None:
    """Refuse an artefact that is not whole, or that has files its manifest does not list.

    Raises:
        RetortError: naming the first fault.
    """
    folder, remedy = place / ref, "not imported; export it again"
    for fault in faults(place, ref):
        raise RetortError(f"{file}: {ref}/{fault.file}: {fault.what}; {remedy}")
    known = {MANIFEST, *contents(folder)}
    found = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    if foreign := sorted(found - known):
        raise RetortError(f"{file}: {ref}/{foreign[0]}: is not of the artefact; {remedy}")
    try:
        cost_of(folder)
    except (ValueError, KeyError, TypeError) as error:
        raise RetortError(f"{file}: {ref}/{ATTEMPTS}: unreadable record; {remedy}") from error


def settle(place: Path, store: Path, ref: str) -> bool:
    """Put a checked artefact in its place; False if the store has it finished already."""
    target = store / ref
    manifest = open_artifact(place / ref).manifest
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(place / ref, target)
        new = True
    except OSError as error:  # a plan has written a work order there, or jobs have begun
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        with leased(target, target / MANIFEST) as new:
            if new:
                for name in [*contents(place / ref), MANIFEST]:
                    (target / name).parent.mkdir(exist_ok=True)
                    os.replace(place / ref / name, target / name)
    name = store / NAMES / manifest.kind / manifest.name
    if not trouble(manifest.name, LONGEST_LABEL) and not name.is_symlink():
        link(name, Path("../..") / ref)
    return new
