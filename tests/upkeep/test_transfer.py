"""`store export` and `store import`: whole, in place at once, and nothing anywhere else."""

import io
import json
import os
import signal
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.store.artefact import MANIFEST_FILE
from pipeline.upkeep.transfer import import_artefacts
from tests.helpers import forked
from tests.helpers.copies import Copy, flip, rewrite
from tests.helpers.graph import environment, tiny

CONFIG = ("--configfile", "experiment.yaml")


@pytest.fixture
def other(copy) -> tuple[str, str]:
    """Options of the same experiment in another, empty store."""
    return "--configfile", copy.write({**tiny(), "store": "other"}, "other.yaml")


@pytest.fixture
def bank(copy) -> Path:
    """A tar of a bank."""
    status, printed = copy.run("store", "export", "bank/dad", "--to", "bank.tar", *CONFIG)
    assert status == 0, printed
    return copy.path / "bank.tar"


def finished(copy: Copy) -> set[str]:
    """What the other store shows as finished, and that it holds nothing half-imported."""
    assert not list((copy.path / "other").glob(".*"))
    found = (copy.path / "other").glob(f"*/*/{MANIFEST_FILE}")
    return {f"{path.parent.parent.name}/{path.parent.name}" for path in found}


def test_there_and_back_with_all_it_is_made_from(copy, other):
    words = ("store", "export", "dad-0", "--with-inputs", "--to", "dad.tar", *CONFIG)
    status, printed = copy.run(*words)
    assert status == 0
    sources = ("dataset/tiny", "teacher/clip", "discretizer/vq", "bank/dad", "student/dad-0")
    refs = [str(copy.place(label).relative_to(copy.path / "store")) for label in sources]
    assert printed.splitlines()[:-1] == refs
    status, printed = copy.run("store", "import", "dad.tar", *other)
    assert printed == "".join(f"{ref}: imported\n" for ref in refs)
    assert finished(copy) == set(refs)
    assert copy.run("verify", *other)[1].endswith("5 artefacts are intact\n")
    link = copy.path / "other/by-name/bank/dad"
    assert link.resolve() == copy.path / "other" / refs[3]
    again = copy.run("store", "import", "dad.tar", *other)
    assert again == (0, "".join(f"{ref}: was here already, left as it is\n" for ref in refs))
    copy.run(*(word.replace("dad.tar", "again.tar") for word in words))
    assert (copy.path / "again.tar").read_bytes() == (copy.path / "dad.tar").read_bytes()


def test_what_is_planned_or_half_made_is_finished_by_an_import(copy, other, bank):
    assert copy.run("plan", "--write", *other)[0] == 0
    place = copy.path / "other/bank" / copy.place("bank/dad").name
    (place / "shard-00000.tar").write_bytes(b"half")
    assert copy.run("store", "import", "bank.tar", *other)[1].endswith(": imported\n")
    assert copy.run("verify", *other)[1].endswith("1 artefacts are intact\n")
    assert not list(place.glob("*.lock"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("nothing", "--to", "x.tar"), "error: nothing: means nothing in store"),
        (("natural", "--to", "x.tar"), "error: natural: means 2 artefacts"),
        (("bank/dad", "--to", "experiment.yaml"), "experiment.yaml: exists already"),
    ],
)
def test_what_cannot_be_exported_is_named(words, message, copy):
    (copy.path / "store/by-name/student/natural").symlink_to(copy.place("student/natural-0"))
    status, printed = copy.run("store", "export", *words, *CONFIG)
    assert status == 2
    assert message in printed
    assert not (copy.path / "x.tar").exists()


def test_what_is_broken_is_not_exported(copy):
    flip(copy.place("bank/dad") / "shard-00000.tar")
    status, printed = copy.run("store", "export", "dad-0", "--with-inputs", "--to", "x", *CONFIG)
    assert status == 2
    assert "shard-00000.tar: altered; finish or mend it first" in printed
    assert not (copy.path / "x").exists()


def retarred(tar: Path, change: Callable) -> None:
    """Write a tar anew; ``change(members)`` edits its list of (header, bytes)."""
    with tarfile.open(tar) as old:
        members = [(m, old.extractfile(m).read() if m.isreg() else b"") for m in old]
    change(members)
    with tarfile.open(tar, "w") as new:
        for member, data in members:
            member.size = len(data)
            new.addfile(member, io.BytesIO(data))


def extra(name: str, data: bytes = b"evil", **about: object) -> Callable:
    """A member of a name more, at the end."""

    def change(members: list) -> None:
        member = tarfile.TarInfo(name.replace("KEY", members[0][0].name.split("/")[1]))
        for field, value in about.items():
            setattr(member, field, value)
        members.append((member, data))

    return change


def swap(members: list) -> None:
    """A byte of the first shard flipped."""
    at = next(i for i, (m, _) in enumerate(members) if m.name.endswith(".tar"))
    member, data = members[at]
    members[at] = (member, data[:600] + bytes([data[600] ^ 1]) + data[601:])


def renamed(members: list) -> None:
    """Another key over the same content."""
    for member, _ in members:
        kind, _, rest = member.name.split("/", 2)
        member.name = f"{kind}/{'0' * 12}/{rest}"


def without_order(members: list) -> None:
    del members[0]


SYMLINK = {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}
TAMPERED = {
    "upwards": (extra("../evil"), "member '../evil' is none of an export's"),
    "upwards within": (extra("bank/KEY/../../../evil"), "is none of an export's"),
    "absolute": (extra("/tmp/evil"), "member '/tmp/evil' is none of an export's"),
    "newline": (extra("bank/KEY/a\nb/../c"), "is none of an export's"),
    "hidden": (extra("bank/KEY/.lease.lock"), "is none of an export's"),
    "a link": (extra("bank/KEY/link", b"", **SYMLINK), "is none of an export's"),
    "a pipe": (extra("bank/KEY/p", b"", type=tarfile.FIFOTYPE), "is none of an export's"),
    "another kind": (extra("by-name/KEY/x"), "is none of an export's"),
    "unlisted": (extra("bank/KEY/code.py"), "code.py: is not of the artefact"),
    "twice": (extra(f"bank/KEY/{MANIFEST_FILE}"), "is there twice"),
    "odd record": (extra("bank/KEY/attempts/x.json", b"[]"), "attempts: unreadable record"),
    "flipped": (swap, "shard-00000.tar: altered; not imported"),
    "renamed": (renamed, "spec.json: is not the job file of this key"),
    "no order": (without_order, "spec.json: is not the job file of this key"),
    "empty": (list.clear, "holds no artefact"),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_a_tampered_tar_brings_nothing(name, copy, other, bank):
    change, message = TAMPERED[name]
    retarred(bank, change)
    status, printed = copy.run("store", "import", "bank.tar", *other)
    assert status == 2
    assert message in printed
    assert printed.count("\n") == 1
    assert finished(copy) == set()
    assert not list(copy.path.rglob("evil"))


@pytest.mark.parametrize("share", [0, 1e-4, 0.3, 0.6, 0.9])
def test_a_cut_tar_brings_nothing(share, copy, other, bank):
    data = bank.read_bytes()
    bank.write_bytes(data[: int(len(data) * share)])
    status, printed = copy.run("store", "import", "bank.tar", *other)
    assert status == 2
    assert "error: bank.tar: " in printed
    assert finished(copy) == set()


def test_a_tar_that_is_not_there_is_named(copy):
    told = copy.run("store", "import", "gone.tar", "--configfile", "experiment.yaml")
    assert told == (2, "error: gone.tar: no such file; name a tar that 'store export' wrote\n")


def test_a_manifest_with_a_path_outside_brings_nothing(copy, other, bank):
    place = copy.place("bank/dad")
    files = json.loads((place / MANIFEST_FILE).read_text())["files"]
    about = next(iter(files.values()))
    rewrite(place, sealed=True, files={**files, "../../../evil": about})
    data = (place / MANIFEST_FILE).read_bytes()

    def change(members: list) -> None:
        members[-1] = (members[-1][0], data)

    retarred(bank, change)
    status, printed = copy.run("store", "import", "bank.tar", *other)
    assert status == 2
    assert "is not below its folder" in printed
    assert finished(copy) == set()


def test_an_import_killed_at_any_rename_shows_nothing_half(copy, other, bank):
    """SIGKILL at the k-th rename, for every k until it gets through."""
    place = copy.path / "other/bank" / copy.place("bank/dad").name
    assert copy.run("plan", "--write", *other)[0] == 0

    def killed(moment: int) -> int:
        left = [moment]

        def watch(event: str, arguments: tuple) -> None:
            if event == "os.rename":
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        def work() -> int:
            sys.addaudithook(watch)
            import_artefacts(Path("other"), Path("bank.tar"))
            return 0

        return forked.forked(work, copy.path, environment()).status

    moment = 1
    while killed(moment) == -signal.SIGKILL:
        assert not (place / MANIFEST_FILE).exists()
        moment += 1
    assert moment > 3
    assert copy.run("verify", *other)[1].endswith("1 artefacts are intact\n")
