"""Fashion-MNIST on made-up files of its form: where they come from, their sides, one channel."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.dataset_source import open_dataset_plugin
from pipeline.data import source_files
from pipeline.datasets import fashion_mnist as fm
from pipeline.errors import RetortError
from pipeline.models.classifier import build_classifier, save_classifier
from pipeline.models.loading import load_classifier
from pipeline.planning.graph import make_plan_from_dict

ROWS = {"train": 5, "test": 3}


@pytest.fixture
def made(tmp_path, monkeypatch) -> dict[str, bytes]:
    """The four files' plain bytes, with their sums patched in and no place that has them."""
    rng, files = np.random.default_rng(0), {}
    for split, (images, labels) in fm.SPLIT_FILES.items():
        pixels = rng.integers(0, 256, (ROWS[split], 28 * 28), np.uint8)
        files[images] = bytes(fm.HEADER_BYTES["images"]) + pixels.tobytes()
        targets = rng.integers(0, 10, ROWS[split], np.uint8)
        files[labels] = bytes(fm.HEADER_BYTES["labels"]) + targets.tobytes()
    sums = {name: source_files.compute_sha256(data) for name, data in files.items()}
    monkeypatch.setattr(fm, "FILE_SHA256", sums)
    monkeypatch.setattr(fm, "SYSTEM_FOLDER", tmp_path / "system")
    monkeypatch.delenv(fm.ENV_VARIABLE, raising=False)
    return files


def put(files: dict[str, bytes], folder: Path, packed: bool) -> Path:
    folder.mkdir(parents=True)
    for name, data in files.items():
        if packed:  # as Debian's: recompressed, so that only the plain bytes have a known sum
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, 1))
        else:
            (folder / name).write_bytes(data)
    return folder


PLACES = {
    "named": ("elsewhere", False),
    "cache": ("data/fashion-mnist", True),
    "torchvision's": ("data/FashionMNIST/raw", False),
    "system": ("system", True),
}


@pytest.mark.parametrize("place", PLACES)
def test_the_files_are_found_plain_or_packed(place, made, tmp_path, monkeypatch) -> None:
    folder, packed = PLACES[place]
    put(made, tmp_path / folder, packed)
    if place == "named":
        monkeypatch.setenv(fm.ENV_VARIABLE, str(tmp_path / folder))
    for split, (images, labels) in fm.SPLIT_FILES.items():
        x, y = open_dataset_plugin("fashion_mnist").load(split, tmp_path / "data")
        assert x.shape == (ROWS[split], 1, 28, 28)
        assert x.tobytes() == made[images][16:]
        assert (y.dtype, y.tolist()) == (np.int64, list(made[labels][8:]))


def test_what_no_place_has_is_downloaded_once(made, tmp_path, monkeypatch) -> None:
    asked = []

    def fetch(url: str, folder: Path, md5: str) -> Path:
        asked.append(url.rsplit("/", 1)[1])
        assert len(md5) == 32
        path = folder / asked[-1]
        path.write_bytes(gzip.compress(made[path.stem]))
        return path

    monkeypatch.setattr(fm, "download_file", fetch)
    for _ in range(2):
        x, _ = fm.Images().load("test", tmp_path / "data")
        assert x.tobytes() == made[fm.SPLIT_FILES["test"][0]][16:]
    assert asked == [f"{name}.gz" for name in fm.SPLIT_FILES["test"]]
    kept = sorted(p.name for p in (tmp_path / "data" / "fashion-mnist").iterdir())
    assert kept == sorted(asked)


@pytest.mark.parametrize("fault", ["altered", "cut", "missing"])
def test_a_bad_copy_is_named(fault, made, tmp_path, monkeypatch) -> None:
    folder = put(made, tmp_path / "copy", packed=True)
    path = folder / f"{fm.SPLIT_FILES['train'][0]}.gz"
    if fault == "altered":
        path.write_bytes(gzip.compress(bytes(100)))
    elif fault == "cut":
        path.write_bytes(path.read_bytes()[:-9])
    else:
        path.unlink()
    monkeypatch.setenv(fm.ENV_VARIABLE, str(folder))
    words = {"altered": "wrong sha256", "cut": "not readable", "missing": "holds neither"}[fault]
    with pytest.raises(RetortError, match=words) as caught:
        fm.Images().load("train", tmp_path / "data")
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_without_a_copy_and_network_the_remedy_is_said(made, tmp_path, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no route\nto host")

    monkeypatch.setattr(fm, "download_file", refuse)
    with pytest.raises(RetortError, match=r"\(no route to host\); set RETORT_FASHION_MNIST"):
        fm.Images().load("train", tmp_path / "data")


def test_the_official_sizes_and_sides() -> None:
    about = open_dataset_plugin({"fashion_mnist": {"side": 16}})
    assert about.sizes == {"train": 60000, "test": 10000}
    assert (about.shape, len(about.classes)) == ((1, 16, 16), 10)
    with pytest.raises(RetortError, match="side: 20 is none of 16, 28, 32"):
        open_dataset_plugin({"fashion_mnist": {"side": 20}})


def shrinking(side: int) -> np.ndarray:
    """Weights (side,28) of the triangle filter as wide as one new pixel (antialiased bilinear)."""
    scale = 28 / side
    centres = (np.arange(side) + 0.5) * scale
    weights = 1 - abs(np.arange(28) + 0.5 - centres[:, None]) / scale
    weights = weights.clip(0)
    return weights / weights.sum(1, keepdims=True)


def test_other_sides_are_framed_or_shrunk() -> None:
    x = np.random.default_rng(1).integers(0, 256, (6, 1, 28, 28), np.uint8)
    np.testing.assert_array_equal(fm.resize_images(x, 28), x)
    framed = fm.resize_images(x, 32)
    np.testing.assert_array_equal(framed[:, :, 2:30, 2:30], x)
    assert framed.sum(dtype=int) == x.sum(dtype=int)
    w = shrinking(16)
    np.testing.assert_allclose(fm.resize_images(x, 16), w @ x.astype(float) @ w.T, atol=0.5 + 1e-3)


@pytest.mark.parametrize(
    ("name", "side"),
    [
        *(("resnet8-s1-w4", 16), ("resnet8-s2-w4", 28), ("resnet18-w4", 16), ("wrn-10-1", 28)),
        *(("mobilenetv2", 16), ("vgg16-bn", 32), ("vit-tiny-p8", 32), ("timm/resnet10t", 28)),
    ],
)
def test_a_network_takes_as_many_channels_as_it_has_means(name, side, tmp_path) -> None:
    torch.manual_seed(0)
    model = build_classifier(name, 10, (0.3,), (0.35,)).eval()
    x = torch.rand(2, 1, side, side)
    with torch.no_grad():
        logits = model(x)
    save_classifier(model, tmp_path / "model.safetensors", name, fm.CLASSES)
    with torch.no_grad():
        assert torch.equal(load_classifier(tmp_path / "model.safetensors")(x), logits)
    assert logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("teacher", "words"),
    [
        ({"model": "vgg16-bn"}, "'vgg16-bn' takes images of 32 px or more, data set 'grey' has 16"),
        ({"model": "vit-tiny-p4"}, "takes images of 32x32 px, data set 'grey' has 16x16"),
        ({"clip": {}}, "a CLIP takes images in 3 channels, data set 'grey' has 1"),
    ],
)
def test_a_network_that_cannot_take_the_images_is_refused_by_the_plan(teacher, words) -> None:
    grey = {"source": {"fashion_mnist": {"side": 16}}, "train": 64}
    with pytest.raises(RetortError, match=words):
        make_plan_from_dict(
            {"datasets": {"grey": grey}, "teachers": {"t": {"dataset": "grey", **teacher}}}
        )
