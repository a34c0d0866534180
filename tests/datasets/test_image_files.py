"""Data sets beyond CIFAR-10, on made-up files: an archive, a file of arrays, image folders."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config.dataset_source import (
    collect_job_paths,
    extract_job_paths,
    open_dataset_plugin,
    strip_paths,
)
from pipeline.config.sections.dataset import DatasetSettings
from pipeline.core.images import scale_to_unit_range
from pipeline.data import source_files
from pipeline.data.statistics import compute_channel_moments
from pipeline.datasets import cifar100, imagenet100, npz, tinyimagenet
from pipeline.discovery import list_plugin_names
from pipeline.errors import RetortError

ROWS = 4


@pytest.fixture(autouse=True)
def no_variable(monkeypatch) -> None:
    monkeypatch.delenv(cifar100.ENV_VARIABLE, raising=False)


def picture(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.integers(0, 256, shape, np.uint8)


# CIFAR-100


@pytest.fixture
def binary(tmp_path, monkeypatch) -> tuple[Path, dict[str, bytes]]:
    """A folder with two tiny files in the binary form, and their bytes."""
    rng, folder = np.random.default_rng(0), tmp_path / "copy" / cifar100.ARCHIVE_FOLDER
    folder.mkdir(parents=True)
    made = {}
    for name in cifar100.FILE_SHA1:
        made[name] = picture(rng, ROWS, 2 + cifar100.IMAGE_BYTES).tobytes()
        (folder / name).write_bytes(made[name])
    sums = {name: hashlib.sha1(data).hexdigest() for name, data in made.items()}
    monkeypatch.setattr(cifar100, "FILE_SHA1", sums)
    return folder, made


def packed(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


@pytest.mark.parametrize("form", ["folder", "above", "archive", "cached archive", "download"])
def test_cifar100_comes_from_a_copy_or_a_download(form, binary, tmp_path, monkeypatch) -> None:
    folder, made = binary
    cache, archive = tmp_path / "data", packed(folder, tmp_path / "a.tar.gz")
    given = {"folder": folder, "above": folder.parent, "archive": archive}
    if form in given:
        monkeypatch.setenv(cifar100.ENV_VARIABLE, str(given[form]))
    if form == "cached archive":
        packed(folder, cache / "cifar-100-binary.tar.gz")
    asked = []
    monkeypatch.setattr(cifar100, "download_file", lambda *a: asked.append(a) or archive)
    x, y = cifar100.load("test", cache)
    rows = np.frombuffer(made["test.bin"], np.uint8).reshape(ROWS, -1)
    np.testing.assert_array_equal(y, rows[:, 1])
    np.testing.assert_array_equal(x.reshape(ROWS, -1), rows[:, 2:])
    assert y.dtype == np.int64
    assert bool(asked) == (form == "download")
    if asked:
        assert asked[0][0] == cifar100.ARCHIVE_URL
        assert asked[0][2] == cifar100.ARCHIVE_MD5
    assert sorted(p.name for p in (cache / "cifar100").iterdir()) == ["test.bin", "train.bin"]


@pytest.mark.parametrize("fault", ["altered", "missing", "absent"])
def test_a_bad_copy_of_cifar100_is_named(fault, binary, tmp_path, monkeypatch) -> None:
    folder = binary[0]
    if fault == "altered":
        (folder / "test.bin").write_bytes(b"x")
    if fault == "missing":
        (folder / "test.bin").unlink()
    given = tmp_path / "nowhere" if fault == "absent" else folder
    monkeypatch.setenv(cifar100.ENV_VARIABLE, str(given))
    with pytest.raises(RetortError, match=f"{cifar100.ENV_VARIABLE}={given}: ") as caught:
        cifar100.load("train", tmp_path / "data")
    assert "\n" not in str(caught.value)


def test_without_a_copy_and_network_the_remedy_is_said(tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(cifar100, "download_file", refuse)
    with pytest.raises(RetortError, match=r"no download \(no route to host\); set RETORT_CIFAR100"):
        cifar100.load("train", tmp_path / "data")
    assert list((tmp_path / "data" / "cifar100").iterdir()) == []


# npz


def saved(tmp_path: Path, **arrays: np.ndarray) -> dict:
    path = tmp_path / "made.npz"
    np.savez(path, **arrays)
    return {"path": str(path), "sha256": source_files.compute_sha256(path.read_bytes())}


def test_npz_rows_are_in_order_and_the_last_ones_test(tmp_path) -> None:
    x = picture(np.random.default_rng(0), 7, 8, 8, 3)
    y = np.array([0, 9, 3, 4, 5, 6, 7], np.uint8)
    about = {**saved(tmp_path, image=x, label=y), "size": 8, "test": 2}
    source = open_dataset_plugin({"npz": about})
    assert source.sizes == {"train": None, "test": 2}
    assert source.shape == (3, 8, 8)
    assert source.classes == open_dataset_plugin("cifar10").classes
    train, test = (source.load(split, tmp_path) for split in ("train", "test"))
    np.testing.assert_array_equal(train[0], x[:5].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(test[0], x[5:].transpose(0, 3, 1, 2))
    assert (*train[1], *test[1]) == tuple(y.tolist())
    assert train[1].dtype == np.int64


def test_npz_images_may_have_channels_first_other_names_and_no_labels(tmp_path) -> None:
    x = picture(np.random.default_rng(0), 3, 3, 8, 8)
    about = {**saved(tmp_path, pictures=x), "size": 8, "image": "pictures", "classes_of": "none"}
    source = open_dataset_plugin({"npz": about})
    assert source.classes == ()
    images, labels = source.load("train", tmp_path)
    np.testing.assert_array_equal(images, x)
    assert labels.tolist() == [0, 0, 0]
    found = open_dataset_plugin({"npz": {**about, "path": "made.npz"}}).load("train", tmp_path)
    np.testing.assert_array_equal(found[0], x)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"path": "nowhere.npz"}, "nowhere.npz does not exist, neither here nor in"),
        ({"sha256": "0" * 64}, "sha256 is .*is it the right file"),
        ({"label": "lable"}, "has no array 'lable', only"),
        ({"size": 16}, "uint8 images of 16x16 px"),
        ({"classes_of": "cifar100", "label": "large"}, "no labels of 100 classes for 3 images"),
        ({"label": "real"}, "no labels of 10 classes"),
        ({"label": "short"}, "no labels of 10 classes"),
        ({"image": "objects"}, "not a readable .npz file"),
    ],
)
def test_an_npz_file_that_is_not_what_was_said(change, words, tmp_path) -> None:
    arrays = {
        "image": picture(np.random.default_rng(0), 3, 8, 8, 3),
        "label": np.arange(3),
        "large": np.array([0, 1, 100]),
        "real": np.array([0.0, 1.0, 2.0]),
        "short": np.arange(2),
        "objects": np.array([None, None]),
    }
    about = {**saved(tmp_path, **arrays), "size": 8, **change}
    with pytest.raises(RetortError, match=words):
        open_dataset_plugin({"npz": about}).load("train", tmp_path)


def test_a_file_that_is_no_npz_is_named(tmp_path) -> None:
    (tmp_path / "page.npz").write_text("<html>quota exceeded</html>")
    with pytest.raises(RetortError, match=r"page\.npz: not a readable \.npz file"):
        npz.Images(path="page.npz", version="1").load("train", tmp_path)


# Folders


def tiny(root: Path, names: tuple[str, ...]) -> None:
    """The layout of tiny-imagenet-200; each class has a colour."""
    lines = []
    for i, name in enumerate(names):
        colour = np.full((64, 64, 3), 60 * i, np.uint8)
        for folder, file in (
            (root / "train" / name / "images", f"{name}_0.png"),
            (root / "val" / "images", f"val_{i}.png"),
        ):
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(colour).save(folder / file)
        lines.append(f"val_{i}.png\t{name}\t0\t0\t62\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))


def test_tinyimagenet_is_read_by_class_resized_and_shuffled(tmp_path, monkeypatch) -> None:
    names = tinyimagenet.CLASSES[:4]
    monkeypatch.setattr(tinyimagenet, "CLASSES", names)
    tiny(tmp_path / tinyimagenet.DEFAULT_FOLDER, names)
    for split in ("train", "test"):
        x, y = open_dataset_plugin("tinyimagenet").load(split, tmp_path)
        assert x.shape == (4, 3, 32, 32)
        assert sorted(y.tolist()) == [0, 1, 2, 3]
        assert (x == 60 * y[:, None, None, None]).all()
        again = tinyimagenet.Images(path=str(tmp_path / tinyimagenet.DEFAULT_FOLDER)).load(
            split, tmp_path
        )
        np.testing.assert_array_equal(again[1], y)
    table = tmp_path / tinyimagenet.DEFAULT_FOLDER / "val" / "val_annotations.txt"
    table.write_text("val_0.png\tn00000000\n")
    with pytest.raises(RetortError, match="not the official table"):
        tinyimagenet.Images().load("test", tmp_path)
    with pytest.raises(RetortError, match="tiny-imagenet-200 does not exist, neither here nor in"):
        tinyimagenet.Images().load("train", tmp_path / "elsewhere")


def test_imagenet100_is_cropped_from_its_classes(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(imagenet100, "WNIDS", imagenet100.WNIDS[:2])
    for split in ("train", "val"):
        for label, name in enumerate((*imagenet100.WNIDS, "n00000000")):
            folder = tmp_path / "imagenet" / split / name
            folder.mkdir(parents=True)
            wide = np.zeros((64, 160, 3), np.uint8)
            wide[:, 48:112] = 100 + label  # what a centre crop sees
            Image.fromarray(wide).save(folder / "a.png")
    x, y = imagenet100.Images(size=28).load("train", tmp_path)
    assert x.shape == (2, 3, 28, 28)
    assert sorted(y.tolist()) == [0, 1]
    assert (x[..., 4:-4] == 100 + y[:, None, None, None]).all()
    (tmp_path / "imagenet" / "val" / imagenet100.WNIDS[0] / "a.png").write_bytes(b"cut off")
    with pytest.raises(RetortError, match=r"a\.png: not a readable image"):
        imagenet100.Images(size=28).load("test", tmp_path)


# What all have in common


def test_the_lists_of_classes_are_whole() -> None:
    assert len(cifar100.CLASSES) == len(set(cifar100.CLASSES)) == 100
    assert list(cifar100.CLASSES) == sorted(cifar100.CLASSES)
    assert len(tinyimagenet.CLASSES) == len(set(tinyimagenet.CLASSES)) == 200
    assert len(set(imagenet100.WNIDS)) == len(set(imagenet100.CLASSES)) == 100
    assert list(imagenet100.WNIDS) == sorted(imagenet100.WNIDS)
    assert (imagenet100.WNIDS[0], imagenet100.CLASSES[0]) == ("n01440764", "tench")
    assert (imagenet100.WNIDS[95], imagenet100.CLASSES[95]) == ("n07747607", "orange")  # class 950


def test_the_places_of_files_are_in_no_key() -> None:
    for name in list_plugin_names("datasets"):
        stated = {"version": "1", "path": "here"}
        options = stated if name in ("npz", "imagefolder", "wds") else None
        source = DatasetSettings(source={name: options} if options else name, train=1).source
        places = collect_job_paths(source)
        assert extract_job_paths({"data": "data", **places}) == (
            {"path": source[name]["path"]} if "path" in str(source) else {}
        )
        assert "path" not in str(strip_paths(source))
        opened = open_dataset_plugin(strip_paths(source), extract_job_paths(places))
        assert set(opened.sizes) == {"train", "test"}


def test_mean_and_std_are_those_of_the_pixels() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 8, 8), generator=rng, dtype=torch.uint8)
    std, mean = torch.std_mean(scale_to_unit_range(images).double(), dim=(0, 2, 3))
    assert compute_channel_moments(images) == tuple(
        [round(v, 4) for v in t.tolist()] for t in (mean, std)
    )
