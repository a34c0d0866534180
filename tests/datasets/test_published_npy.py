"""CIFAR-10-C, CIFAR-100-C and CIFAR-10.1 from published files, and files that are none."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.config.dataset_source import open_dataset_plugin
from pipeline.data import npy_files
from pipeline.datasets import cifar10, cifar10_1, cifar10c, cifar100
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.graph import tiny
from tests.helpers.making import made

PER_SEVERITY, NAMES = 20, ("fog", "snow")


@pytest.fixture(autouse=True)
def few_images(monkeypatch):
    """Published files of twenty images in place of ten thousand."""
    monkeypatch.setattr(npy_files, "IMAGES_PER_SEVERITY", PER_SEVERITY)


def write_corrupted(folder: Path, class_count: int = 10) -> Path:
    """A folder in the published form: a pixel tells its corruption and severity."""
    folder.mkdir()
    for number, name in enumerate(NAMES):
        images = np.zeros((5 * PER_SEVERITY, 32, 32, 3), np.uint8)
        images[:, 0, 0, 0] = 100 * (number + 1) + np.repeat(np.arange(1, 6), PER_SEVERITY)
        images[:, 1, 2, 1] = np.tile(np.arange(PER_SEVERITY), 5)
        np.save(folder / f"{name}.npy", images)
    np.save(folder / "labels.npy", np.tile(np.arange(PER_SEVERITY) % class_count, 5).astype("u1"))
    return folder


def options(folder: Path, **changes) -> dict:
    return {"path": str(folder), "names": list(NAMES), "images": 3, **changes}


@pytest.mark.parametrize(("name", "classes"), [("cifar10c", 10), ("cifar100c", 100)])
def test_corrupted_sets_have_a_part_for_each_corruption_and_severity(name, classes, tmp_path):
    folder = write_corrupted(tmp_path / "c", classes)
    source = open_dataset_plugin({name: options(folder, severities=[2, 5])})
    images, labels = source.load("test", tmp_path)
    assert source.parts == (("fog-2", 3), ("fog-5", 3), ("snow-2", 3), ("snow-5", 3))
    assert images[:, 0, 0, 0].tolist() == [102] * 3 + [105] * 3 + [202] * 3 + [205] * 3
    assert images[:, 1, 1, 2].tolist() == [0, 1, 2] * 4 == labels.tolist()
    assert source.classes == (cifar10 if classes == 10 else cifar100).CLASSES
    assert source.sizes == {"train": 0, "test": 12} and len(source.load("train", tmp_path)[1]) == 0


def test_cifar_10_1_is_read_in_either_version(tmp_path):
    for version, count in (("v4", 2021), ("v6", 2000)):
        images = np.full((count, 32, 32, 3), 7, np.uint8)
        np.save(tmp_path / f"cifar10.1_{version}_data.npy", images)
        np.save(tmp_path / f"cifar10.1_{version}_labels.npy", np.arange(count) % 10)
        source = cifar10_1.Images(path=str(tmp_path), version=version)
        images, labels = source.load("test", tmp_path)
        assert (images.shape, len(labels)) == ((count, 3, 32, 32), count)
        assert source.sizes["test"] == count and source.classes == cifar10.CLASSES


def test_parts_reach_the_outcomes(tmp_path):
    raw = tiny()
    raw["store"] = str(tmp_path / "store")
    raw = {key: raw[key] for key in ("store", "run", "recipes")}
    folder = write_corrupted(tmp_path / "c")
    np.savez(
        tmp_path / "own.npz",
        image=np.random.default_rng(0).integers(0, 256, (24, 32, 32, 3), dtype=np.uint8),
        label=np.arange(24) % 10,
    )
    own = {"path": str(tmp_path / "own.npz"), "classes_of": "cifar10", "test": 8}
    raw["datasets"] = {
        "own": {"source": {"npz": own}},
        "c": {"source": {"cifar10c": options(folder)}},
    }
    recipe = {"epochs": 1, "batch": 8}
    raw["teachers"] = {"t": {"dataset": "own", "model": "resnet8-s2-w8", "recipe": recipe}}
    raw["suites"] = {"c": {"attacks": ["clean"], "dataset": "c", "models": "teachers"}}
    found = made(make_plan_from_dict(raw))
    assert found["dataset/c"].manifest.facts["parts"][:2] == [["fog-1", 3], ["fog-2", 3]]
    records = found["evaluation/t.c"].manifest.facts["accuracy"]
    seen = [(r["corruption"], r["severity"], r["images"]) for r in records]
    assert seen == [(name, s, 3) for name in NAMES for s in range(1, 6)]


def array(shape=(100, 32, 32, 3), kind="uint8", fill=9) -> np.ndarray:
    return np.full(shape, fill, kind)


BAD = {
    "floats": ("fog", array(kind="float32", fill=0.5), "multiply pixels of [0,1] by 255, round"),
    "colours first": ("fog", array((100, 3, 32, 32)), "move its axis of colours to the end"),
    "another side": ("fog", array((100, 64, 64, 3)), "uint8 (N, 32, 32, 3) is expected"),
    "too few": ("fog", array((20, 32, 32, 3)), "20 images, 100 are published"),
    "floats cut to whole numbers": ("fog", array(fill=1), "every pixel is 0 or 1: images of [0,1]"),
    "labels from 1": ("labels", np.tile(np.arange(1, 11), 10), "10 or 1, outside 0 to 9; they beg"),
    "labels of others": ("labels", np.arange(100), "a label is 99 or 0, outside 0 to 9"),
    "labels as floats": ("labels", np.zeros(100), "float64 (100,), whole numbers (100,) are"),
    "too few labels": ("labels", np.zeros(20, int), "int64 (20,), whole numbers (100,) are exp"),
}


@pytest.mark.parametrize("case", BAD)
def test_files_in_another_form_are_told_in_one_line(case, tmp_path):
    name, stored, message = BAD[case]
    folder = write_corrupted(tmp_path / "c")
    np.save(folder / f"{name}.npy", stored)
    with pytest.raises(RetortError) as caught:
        open_dataset_plugin({"cifar10c": options(folder)}).load("test", tmp_path)
    text = str(caught.value)
    assert text.startswith(f"{folder / name}.npy: ") and message in text and "\n" not in text


def test_what_the_headers_tell_is_told_by_the_plan(tmp_path):
    folder = write_corrupted(tmp_path / "c")
    np.save(folder / "fog.npy", array(kind="float32"))
    raw = tiny()
    raw["datasets"]["c"] = {"source": {"cifar10c": options(folder)}}
    with pytest.raises(RetortError, match="float32"):
        make_plan_from_dict(raw)
    (folder / "snow.npy").unlink()
    with pytest.raises(RetortError, match=r"snow.npy is missing; unpack the published archive"):
        make_plan_from_dict(raw)
    (folder / "fog.npy").write_bytes(b"no array")
    with pytest.raises(RetortError, match=r"fog.npy: not a readable .npy file"):
        npy_files.open_array(folder / "fog.npy")


def test_options_that_no_set_has_are_refused(tmp_path):
    for changes, message in (
        ({"names": ["rain"]}, "names: unknown rain; choose from gaussian_noise"),
        ({"severities": [6]}, "severities: \\[6\\] are not among 1 to 5"),
        ({"images": 21}, "images: 21 is outside 1 to 20"),
    ):
        with pytest.raises(RetortError, match=message):
            open_dataset_plugin({"cifar10c": options(tmp_path, **changes)})
    assert cifar10c.Images(version="1", images=2).find(tmp_path, True).options == {}
