"""Counts as words and shares, of data sets that are held in memory."""

import numpy as np
import pytest
import torch

from pipeline.data.dataset_artefact import open_dataset
from pipeline.data.statistics import compute_channel_moments
from pipeline.data.stratified import draw_stratified_order
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.stages import prepare_data
from pipeline.store.artefact import read_job, write_manifest
from tests.data.test_own_images import settled
from tests.helpers.graph import DATA
from tests.helpers.pictures import made_of, planned_of


def counts(source: object, **asked: object) -> tuple:
    section = settled(source, **asked)
    return section.train, section.val, section.test, section.stratified


CASES = {
    "nothing": ({}, (50_000, 0, 10_000, False)),
    "all": ({"train": "all", "val": 5000, "test": "all"}, (45_000, 5000, 10_000, False)),
    "shares": ({"train": "10%", "val": "2.5 %", "test": "1%"}, (5000, 1250, 100, True)),
    "numbers": ({"train": 100}, (100, 0, 0, False)),
    "as text": ({"train": "100"}, (100, 0, 0, False)),
    "tests alone": ({"train": 0, "test": "all"}, (0, 0, 10_000, False)),
    "no tests": ({"train": "all", "test": 0}, (50_000, 0, 0, False)),
}


@pytest.mark.parametrize("case", CASES)
def test_counts_become_numbers(case):
    asked, found = CASES[case]
    assert counts("cifar10", **asked) == found


def test_words_and_numbers_give_one_key(tmp_path):
    words = planned_of(tmp_path, {"source": "cifar10", "train": "all", "val": 5000})
    numbers = {"source": "cifar10", "train": 45_000, "val": 5000, "test": 10_000}
    assert set(words.artefacts) == set(planned_of(tmp_path, numbers).artefacts)


REFUSED = {
    "too many": (
        {"train": "all", "val": 50_001},
        "d.val: 50001 images asked for, cifar10 has 50000",
    ),
    "with others": (
        {"train": 45_000, "val": "20%"},
        "d.train: 45000 images asked for, cifar10 has",
    ),
    "negative": ({"train": -1}, "d.train: a number of images, 'all', or a share"),
    "a fraction": ({"train": 0.5}, "d.train: a number of images, 'all', or a share"),
    "nothing": ({"train": 0, "test": 0}, "d.train: 0 images; ask for some, or for test images"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_counts_that_do_not_fit_are_refused(case):
    asked, message = REFUSED[case]
    with pytest.raises(RetortError, match=f"datasets.{message}"):
        settled("cifar10", **asked)


def test_a_source_that_does_not_know_its_images_wants_a_number():
    with pytest.raises(
        RetortError, match="d.train: all: imagenet100 knows its number of images on"
    ):
        settled("imagenet100", train="all", test=0)
    assert counts("imagenet100", train=3, test=2) == (3, 0, 2, False)


# Rows


def test_every_stretch_of_a_stratified_order_holds_each_class_in_proportion():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10)
    order = draw_stratified_order(labels)
    assert sorted(order.tolist()) == list(range(100))
    for start in range(0, 100, 10):
        part = labels[order[start : start + 10]].bincount(minlength=3)
        assert ((part - torch.tensor([6, 3, 1])).abs() <= 1).all()
    assert labels[order[80:]].bincount().tolist() == [12, 6, 2]
    assert torch.equal(order, draw_stratified_order(labels))


def npz(tmp_path, rows: int = 10, **more: object) -> dict:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (rows, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "made.npz", image=images, label=np.arange(rows) % 2)
    return {"npz": {"path": str(tmp_path / "made.npz"), "size": 8, **more}}


def test_an_npz_file_is_counted_and_named_by_its_directory(tmp_path):
    source = npz(tmp_path)
    section = settled(source, train="all", test="20%")
    assert (section.train, section.test, section.stratified) == (8, 2, True)
    version = section.source["npz"]["version"]
    assert version.startswith("files-")
    assert settled(npz(tmp_path), test=0).source["npz"]["version"] == version
    data = made_of(tmp_path, {"source": source, "test": "20%"})
    labels = [data.read_split(split).labels for split in ("train", "test")]
    assert [y.bincount().tolist() for y in labels] == [[4, 4], [1, 1]]
    rows = torch.cat([data.read_split(split).images for split in ("train", "test")])
    assert len(rows.flatten(1).unique(dim=0)) == 10
    pinned = {"npz": {**source["npz"], "version": version}}
    npz(tmp_path, rows=12)
    with pytest.raises(RetortError, match=f"the data set's version is {version}"):
        made_of(tmp_path / "again", {"source": pinned, "train": 4})


def test_the_test_rows_of_an_npz_file_are_its_last(tmp_path):
    assert counts(npz(tmp_path, test=3)) == (7, 0, 3, False)
    with pytest.raises(RetortError, match="d.source.npz.test: 11 of 10 images; make it smaller"):
        settled(npz(tmp_path, test=11))
    with pytest.raises(RetortError, match=r"npz.path: .*made.npz: has no array 'pictures'"):
        settled(npz(tmp_path, image="pictures"))


def test_test_images_alone_need_no_training_images(tmp_path):
    raw = {"source": "cifar10", "train": 0, "test": 100}
    plan = make_plan_from_dict(
        {"store": str(tmp_path / "store"), "datasets": {"d": raw}, "run": {"data": str(DATA)}}
    )
    write_job_files(plan)
    job = read_job(plan.folder_path(plan.refs_by_name["dataset", "d"]))
    write_manifest(job, prepare_data.run(job))
    data = open_dataset(job.folder)
    images = data.read_split("test").images
    assert len(images) == 100 and len(data.read_split("train").labels) == 0
    assert (data.mean, data.std) == tuple(map(tuple, compute_channel_moments(images)))


@pytest.mark.parametrize("shape", [(1, 3, 1, 1), (5, 3, 4, 4)])
def test_a_channel_of_one_value_can_be_divided_by(shape):
    means, stds = compute_channel_moments(torch.full(shape, 51, dtype=torch.uint8))
    assert means == [0.2] * 3 and stds == [1.0] * 3


def test_an_empty_split_has_the_shape_of_the_others(tmp_path):
    data = made_of(tmp_path, {"source": npz(tmp_path), "train": 5, "val": 0, "test": 0})
    for split in ("val", "test"):
        assert data.read_split(split).images.shape == (0, 3, 8, 8)
