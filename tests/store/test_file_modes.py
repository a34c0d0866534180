"""Files that others may read: modes follow the umask, and a denied file is named with its owner."""

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.cli.main import main
from pipeline.data.image_folder import read_image
from pipeline.data.lazy_images import FileImages
from pipeline.data.splits import Split, save_split
from pipeline.datasets import npz
from pipeline.errors import RetortError
from pipeline.models import classifier, vqgan
from pipeline.models.pretrained.checkpoint_files import read_state_dict
from pipeline.models.pretrained.vqgan_config import read_architecture
from pipeline.planning.plan import Plan
from pipeline.store import checkpoint
from pipeline.store.artefact import (
    MANIFEST_FILE,
    compute_sha256,
    open_artefact,
    write_atomically,
    write_text,
)
from pipeline.store.lease import describe_holder, hold_lease
from pipeline.store.logs import capture_job_log
from pipeline.upkeep.transfer import export_artefacts
from tests.helpers import bank_store, forked
from tests.helpers.graph import environment

NOBODY = 65534
IS_ROOT = os.geteuid() == 0


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request) -> int:
    """The umask of this process, for one test."""
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """The mode of every file and folder below a folder."""
    return {
        str(path.relative_to(folder)): oct(stat.S_IMODE(path.lstat().st_mode))
        for path in folder.rglob("*")
        if not path.is_symlink()
    }


def test_every_file_that_is_written_follows_the_umask(tmp_path, umask):
    store = bank_store.store_in(tmp_path)
    bank = store.made(**bank_store.SAMPLES)
    place = tmp_path / "more"
    with write_atomically(place / "model.safetensors") as temporary:
        classifier.save_classifier(bank_store.teacher(), temporary, "resnet8-s2-w8", ("a",))
    with write_atomically(place / "vqgan.safetensors") as temporary:
        vqgan.save(bank_store.quantiser(), temporary)
    with write_atomically(place / "outcomes.parquet") as temporary:
        pq.write_table(pa.table({"a": [1]}), temporary)
    save_split(place / "train.safetensors", Split(torch.zeros(1, 3, 4, 4), torch.zeros(1)))
    checkpoint.save(place / "state/checkpoint.pt", {"a": torch.zeros(2)})
    write_text(place / "report.html", "<html>")
    with capture_job_log(place, "run"):
        pass
    export_artefacts(store.path, [], place / "store.tar")
    with hold_lease(place, place / MANIFEST_FILE):
        written = [bank.folder, store.folder("dataset", "data"), place]
        found = {
            f"{folder.name}/{n}": mode for folder in written for n, mode in modes(folder).items()
        }
    assert {"more/lease.lock", f"{bank.key}/shard-00000.tar"} <= found.keys()
    assert len(found) > 15
    folders = {"more/state", "more/attempts"}
    for name, mode in found.items():
        assert mode == oct((0o777 if name in folders else 0o666) & ~umask), name


def test_the_whole_experiment_follows_the_umask(made):
    """The tiny graph's own jobs: every folder and every file as the umask of the run has it."""
    os.umask(umask := os.umask(0))
    for name, mode in modes(made.path / "store").items():
        usual = 0o777 if (made.path / "store" / name).is_dir() else 0o666
        assert mode == oct(usual & ~umask), name


def as_nobody(work: Callable[[], object], folder: Path) -> str:
    """What ``work`` raises as a user that owns nothing, whom modes bind."""

    def live() -> int:
        if IS_ROOT:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
        try:
            print(work() or "nothing raised")
        except RetortError as error:
            print(error)
        return 0

    ended = forked.forked(live, folder, environment())
    assert ended.status == 0, ended.text
    return ended.text.strip()


@pytest.fixture
def shared(tmp_path) -> Path:
    """A folder that every user may enter, as a shared store is."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_uid == os.geteuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o755)
    return tmp_path


def read_through_main(path: Path) -> None:
    """What the command line says of a job whose folder may not be entered."""
    main(["bank", "info", str(path.parent)])


READERS = {
    "spec.json": read_through_main,
    MANIFEST_FILE: lambda path: open_artefact(path.parent),
    "state.pt": lambda path: checkpoint.load(path, "cpu"),
    "weights.pt": lambda path: read_state_dict(path, "0" * 64),
    "model.safetensors": classifier.read_metadata,
    "train.parquet": compute_sha256,
    "vq.yaml": read_architecture,
    "image.png": lambda path: read_image(path, 32, 1.0),
    "images.npz": lambda path: npz.Images(path=str(path), version="1").read_arrays(path),
    "photo.jpg": lambda path: FileImages(
        path.parent, pa.table({"file": [path.name], "offset": [0], "size": [1]}), 4
    )[:1],
}


@pytest.mark.parametrize("name", READERS)
def test_a_file_of_another_user_is_named_with_its_owner(shared, name):
    path = shared / name
    path.write_bytes(b"x")
    path.chmod(0o000 if not IS_ROOT else 0o600)
    printed = as_nobody(lambda: READERS[name](path), shared)
    owner = path.owner()
    assert f"{path}: you may not read it; it belongs to {owner}, mode 0" in printed
    assert printed.splitlines()[0].endswith(f": let {owner} run 'chmod a+rX {path}'")
    assert "corrupt" not in printed and "run again" not in printed and "missing" not in printed


def test_a_folder_that_denies_its_files_is_named(shared):
    store = shared / "store"
    path = store / "bank/0123456789ab" / MANIFEST_FILE
    write_text(path, "{}")
    path.parent.chmod(0o700 if IS_ROOT else 0o000)
    denial = f"({path.parent} denies it); it belongs to {store.owner()}, mode 0"
    plan = Plan(store, {})
    for ask in (
        lambda: plan.is_complete("bank/0123456789ab"),
        lambda: open_artefact(path.parent),
        lambda: main(["bank", "info", str(path.parent)]),
    ):
        printed = as_nobody(ask, shared)
        assert f"you may not read it {denial}" in printed
        assert f"'chmod a+rX {path.parent}'" in printed
    path.parent.chmod(0o755)


def test_an_unreadable_lease_is_judged_by_its_heartbeat(shared):
    path = shared / "lease.lock"
    path.write_text("{}")
    path.chmod(0o600 if IS_ROOT else 0o000)
    assert as_nobody(lambda: describe_holder(path), shared) == "somebody"
    os.utime(path, (0, 0))
    assert as_nobody(lambda: describe_holder(path), shared) == "nothing raised"
