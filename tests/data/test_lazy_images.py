"""Images that stay in their files: class folders and tar shards, indexed, read, cropped."""

from pathlib import Path

import pytest
import torch

from pipeline.config.dataset_source import open_dataset_plugin
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.data.dataset_artefact import DatasetArtefact
from pipeline.data.image_folder import read_image
from pipeline.data.imagenet import load_class_names, load_subset_labels, load_wordnet_ids
from tests.helpers.pictures import CLASSES, SIZE, folders, made, shards, source


@pytest.fixture
def root(tmp_path) -> Path:
    return folders(folders(tmp_path / "images"), split="val", each=1)


def test_images_stay_and_are_read_as_the_eager_reader_reads_them(root, tmp_path):
    data = made(tmp_path, source(root))
    assert not list(data.artefact.folder.glob("*.safetensors"))
    assert data.artefact.manifest.facts["counts"] == {"train": 9, "val": 3, "test": 3}
    seen = []
    for name in ("train", "val", "test"):
        split = data.read_split(name)
        assert split.images.shape == (len(split.labels), 3, SIZE, SIZE)
        for row, place in enumerate(split.images.table.to_pylist()):
            expected = read_image(root / place["file"], SIZE, 0.875)
            read = split.images[row : row + 1]
            assert read.dtype == torch.uint8
            assert torch.equal(read[0], torch.from_numpy(expected.copy()))
            assert CLASSES[split.labels[row]] == Path(place["file"]).parent.name
            seen.append(place["file"])
    assert len(set(seen)) == 15


def test_any_index_gives_what_slices_give(root, tmp_path):
    images = made(tmp_path, source(root)).read_split("train").images
    every = images[:]
    rows = torch.tensor([7, 0, 3, 3])
    assert torch.equal(images[rows], every[rows])
    assert torch.equal(images.to("cpu")[2:8:2], every[2:8:2])
    assert torch.equal(torch.cat(list(images.split(4))), every)
    assert len(images) == 9 and images[9:].shape == (0, 3, SIZE, SIZE)


def test_shards_hold_the_same_images_and_labels(root, tmp_path):
    packed = shards(shards(tmp_path / "tars"), "val", each=2)
    data = made(tmp_path, source(packed, "wds"), val=0, train=12)
    split, plain = (
        data.read_split("train"),
        made(tmp_path, source(root), val=0, train=12).read_split("train"),
    )
    ours = {bytes(i.numpy()): int(y) for i, y in zip(split.images[:], split.labels, strict=True)}
    theirs = {bytes(i.numpy()): int(y) for i, y in zip(plain.images[:], plain.labels, strict=True)}
    assert len(ours) == 12 and ours == theirs


def test_mean_and_std_are_those_of_the_pixels(root, tmp_path):
    data = made(tmp_path, source(root))
    pixels = data.read_split("train").images[:].double() / 255
    assert data.mean == pytest.approx(pixels.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert data.std == pytest.approx(pixels.transpose(0, 1).flatten(1).std(1).tolist(), abs=1e-4)


# Training


def batches(
    data: DatasetArtefact, epoch: int = 0, start: int = 0, seed: int = 3, augment="resized_crop"
):
    split = data.read_split("train")
    plan = BatchSchedule(epochs=2, batch=4, seed=seed, augment=augment)
    return list(DatasetSource(split.images, split.labels, plan).iterate_batches(epoch, start, None))


def test_random_crops_are_named_by_seed_epoch_and_row(root, tmp_path):
    data = made(tmp_path, source(root))
    images, rows = data.read_split("train").images, torch.arange(9)
    first = images.read_random_crops(rows, 3, 0)
    assert torch.equal(images.read_random_crops(rows.flip(0), 3, 0).flip(0), first)
    for other in (images.read_random_crops(rows, 4, 0), images.read_random_crops(rows, 3, 1)):
        assert (other != first).flatten(1).any(1).all()


def test_a_resumed_epoch_sees_the_same_batches(root, tmp_path):
    data = made(tmp_path, source(root))
    whole, rest = batches(data), batches(data, start=1)
    assert len(whole) == 2 and len(rest) == 1
    assert torch.equal(whole[1].x, rest[0].x) and torch.equal(whole[1].y, rest[0].y)
    assert not torch.equal(whole[0].x, batches(data, epoch=1)[0].x)
    assert batches(data, start=2) == []


def test_without_random_crops_a_lazy_set_gives_what_a_held_one_gives(root, tmp_path):
    split = made(tmp_path, source(root)).read_split("train")
    plan = BatchSchedule(epochs=1, batch=4, seed=1, augment="crop_flip")
    lazy, held = (
        list(DatasetSource(images, split.labels, plan).iterate_batches(0, 0, None))
        for images in (split.images, split.images[:])
    )
    for one, two in zip(lazy, held, strict=True):
        assert torch.equal(one.x, two.x) and torch.equal(one.index, two.index)


# Classes


def test_numbered_folders_are_labels_not_words(tmp_path):
    numbers = tuple(map(str, range(12)))
    root = folders(tmp_path / "v2", sorted(numbers), each=1, split="val")
    about = source(root, folders=[f"class {i}" for i in range(12)])
    split = made(tmp_path, about, train=0, val=0, test=12).read_split("test")
    for place, label in zip(split.images.table["file"].to_pylist(), split.labels, strict=True):
        assert int(Path(place).parent.name) == label


def test_imagenet_s_lists_are_in_the_installed_packages():
    assert len(load_wordnet_ids()) == len(load_class_names()) == 1000
    assert list(load_wordnet_ids()) == sorted(load_wordnet_ids())
    assert load_class_names()[0] == "tench"
    assert (len(load_subset_labels("a")), len(load_subset_labels("r"))) == (200, 200)
    assert open_dataset_plugin({"imagefolder": {"version": "1"}}).classes == load_class_names()


def test_imagenet_a_is_labelled_and_scored_in_the_thousand(tmp_path):
    few = [load_wordnet_ids()[label] for label in load_subset_labels("a")]
    root = folders(tmp_path / "a", few, each=1, split=".")
    about = {"path": str(root), "version": "1", "size": SIZE, "test": ".", "subset": "a"}
    data = made(tmp_path, {"imagefolder": about}, train=0, val=0, test=200)
    split = data.read_split("test")
    assert sorted(split.labels.tolist()) == sorted(load_subset_labels("a"))
    assert data.artefact.manifest.facts["scored"] == list(load_subset_labels("a"))
    files = split.images.table["file"].to_pylist()
    assert all(load_wordnet_ids()[y] in file for y, file in zip(split.labels, files, strict=True))
    assert split.groups is None


def test_corruptions_on_disk_are_parts_of_one_test_set(tmp_path):
    for part in ("fog/1", "fog/5", "snow/1"):
        folders(tmp_path / "c", CLASSES, each=1, split=part)
    about = source(tmp_path / "c", test=".", levels=2, crop=1.0)
    split = made(tmp_path, about, train=0, val=0, test=9).read_split("test")
    assert sorted(split.groups.to_pylist()) == ["fog-1"] * 3 + ["fog-5"] * 3 + ["snow-1"] * 3
