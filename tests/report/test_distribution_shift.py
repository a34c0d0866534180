"""Test sets other than a model's own: ImageNet-A's mask, numbered folders, corruptions, mCE."""

from dataclasses import astuple
from itertools import product
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from pipeline.core.attack_protocol import AttackPoint
from pipeline.data.imagenet import load_subset_labels, load_wordnet_ids
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report.distribution_shift import (
    ALEXNET_ERRORS,
    ClassSubsetClassifier,
    bound_mean_error,
    compute_relative_error,
    mean_corruption_error,
    mean_error,
)
from pipeline.report.outcomes import Outcome, Study
from pipeline.report.shift_table import compute_measures, is_imagenet
from pipeline.report.statistics.intervals import wilson_interval
from tests.helpers.making import made
from tests.helpers.pictures import CLASSES, folders, source

SEVERITIES = range(1, 6)


def alexnet(factor: float = 1.0) -> dict[tuple[str, int], float]:
    """AlexNet's errors times a factor, spread over the severities around their mean."""
    return {
        (name, s): factor * error / 100 * (1 + 0.1 * (s - 3))
        for name, error in ALEXNET_ERRORS.items()
        for s in SEVERITIES
    }


def test_the_mce_of_alexnet_s_own_errors_is_100():
    assert mean_corruption_error(alexnet()) == pytest.approx(100, abs=1e-9)
    assert mean_corruption_error(alexnet(0.4)) == pytest.approx(40, abs=1e-9)
    half = {key: e / 2 if key[0] == "fog" else e for key, e in alexnet().items()}
    assert mean_corruption_error(half) == pytest.approx(100 - 50 / 15, abs=1e-9)
    assert len(ALEXNET_ERRORS) == 15


def test_there_is_no_mce_of_a_part_of_the_corruptions():
    errors = alexnet()
    del errors["snow", 5]
    assert mean_corruption_error(errors) is None


def test_mean_errors_by_hand():
    errors = {("fog", 1): 0.1, ("fog", 2): 0.3, ("snow", 1): 0.4}
    reference = {("fog", 1): 0.2, ("fog", 2): 0.6, ("snow", 1): 0.2}
    assert mean_error(errors) == pytest.approx(30)  # of 0.2 and 0.4
    assert compute_relative_error(errors, reference) == pytest.approx(100 * (0.5 + 2) / 2)
    assert compute_relative_error(errors, {("fog", 1): 0.2}) is None
    assert compute_relative_error(errors, dict.fromkeys(errors, 0.0)) is None
    # one part with error 0.2 of 100 images: 1.96 * 4 points, as a share of its own error
    assert bound_mean_error({("fog", 1): 0.2}, 100, 20) == pytest.approx(1.96 * 4, abs=0.01)
    assert bound_mean_error({("fog", 1): 0.2}, 100, 40) == pytest.approx(1.96 * 8, abs=0.01)
    assert bound_mean_error({("fog", 1): 0.0}, 100, 0) == 0


def test_a_prediction_is_made_among_the_scored_classes_alone():
    model = nn.Linear(4, 4, bias=False)
    nn.init.eye_(model.weight)
    scored = ClassSubsetClassifier(model.eval(), (1, 3))
    x = torch.tensor([[9.0, 1, 0, 2], [0, 3, 9, 2]])
    assert scored(x).argmax(1).tolist() == [3, 1]
    assert not scored.training
    x.requires_grad_()
    loss = nn.functional.cross_entropy(scored(x), torch.tensor([1, 3]))
    assert torch.autograd.grad(loss, x)[0].isfinite().all()


def experiment(tmp_path, own: dict, others: dict, **counts: int) -> dict:
    """A student on folders, tested on its own images and on other sets."""
    recipe = {"epochs": 1, "batch": 8, "augment": "resized_crop"}
    datasets = {"own": {"source": own, "train": 8, "test": 3, **counts}, **others}
    suites = {"main": {"attacks": ["clean"]}}
    suites |= {name: {"attacks": ["clean"], "dataset": name} for name in others}
    return {
        "store": str(tmp_path / "store"),
        "run": {"data": str(tmp_path)},
        "datasets": datasets,
        "students": {
            "s": {
                "dataset": "own",
                "model": "resnet8-s2-w8",
                "objective": "natural",
                "recipe": recipe,
            }
        },
        "suites": suites,
        "report": {"title": "t"},
    }


@pytest.fixture
def small(tmp_path) -> dict:
    """A student on three classes; test sets with numbered folders and with ImageNet-C's parts."""
    folders(folders(tmp_path / "own"), split="val", each=1)
    folders(tmp_path / "v2", ("0", "1", "2"), each=2, split=".")
    for name in ALEXNET_ERRORS:
        for severity in SEVERITIES:
            folders(tmp_path / "c", each=1, split=f"{name}/{severity}")
    given = {"size": 32, "test": "."}
    sets = {
        "v2": {"source": source(tmp_path / "v2", **given), "test": 6},
        "c": {"source": source(tmp_path / "c", levels=2, crop=1.0, **given), "test": 225},
    }
    return experiment(tmp_path, source(tmp_path / "own", size=32), sets | {})


def with_no_training(raw: dict) -> dict:
    for name, section in raw["datasets"].items():
        if name != "own":
            section["train"] = 0
    return raw


def test_alexnet_s_errors_belong_to_imagenet_s_classes_alone():
    def of(classes: list[str]) -> Study:
        about = SimpleNamespace(manifest=SimpleNamespace(facts={"classes": classes}))
        return Study({"dataset/k": about}, {"dataset/c": "dataset/k"})

    assert is_imagenet(of(list(load_wordnet_ids())), "c")
    assert not is_imagenet(of(["a", "b"]), "c")
    index = np.arange(4)
    points = {
        AttackPoint("clean", corruption=n, severity=s): Outcome(index, np.float64([1, 0, 0, 1]))
        for n, s in product(ALEXNET_ERRORS, SEVERITIES)
    }
    mce = mean_corruption_error(dict.fromkeys(product(ALEXNET_ERRORS, SEVERITIES), 0.5))
    shared = {", mean of 75": 50.0}
    assert compute_measures(points, True, None) == shared | {", mCE": pytest.approx(mce)}
    assert compute_measures(points, False, None) == shared | {", mean corruption error": 50.0}
    reference = dict.fromkeys(product(ALEXNET_ERRORS, SEVERITIES), 0.25)
    relative = compute_measures(points, False, reference)[", relative mean corruption error"]
    assert relative == pytest.approx(200)


def test_other_sets_are_evaluated_by_part_and_reported_with_the_mean_error(small):
    small["report"]["corruption_reference"] = "s"
    found = made(make_plan_from_dict(with_no_training(small)))
    table = pq.read_table(
        found["evaluation/s-0.c"].get_verified_path("outcomes.parquet")
    ).to_pylist()
    assert {(r["corruption"], r["severity"]) for r in table} == set(
        product(ALEXNET_ERRORS, SEVERITIES)
    )
    errors = {}
    for name in ALEXNET_ERRORS:
        for s in SEVERITIES:
            part = [r for r in table if (r["corruption"], r["severity"]) == (name, s)]
            assert len(part) == 3 and {r["label"] for r in part} == {0, 1, 2}
            errors[name, s] = sum(r["label"] != r["prediction"] for r in part) / 3
    shown = found["report/report"].manifest.facts
    error = pytest.approx(mean_error(errors))
    assert shown["shifted"]["s"]["c, mean corruption error"] == error
    assert shown["shifted"]["s"]["c, relative mean corruption error to s"] == pytest.approx(100)
    (record,) = found["evaluation/s-0.v2"].manifest.facts["accuracy"]
    assert record["attack"] == "clean"
    assert shown["shifted"]["s"]["v2"] == pytest.approx(100 * record["accuracy"])
    text = found["report/report"].get_verified_path("report.md").read_text()
    assert "## Under distribution shift" in text and "c, mCE" not in text
    assert "c, mean of 75 (3)" in text and "v2 (6)" in text
    value, low, high = (100 * v for v in astuple(wilson_interval(record["accuracy"], 6)))
    assert f"{value:.1f} [{low:.1f}, {high:.1f}]" in text
    assert " gaussian noise |" in text and "3 images of each." in text
    assert set(shown["accuracy"]["student/s"]) == {"clean"}  # its own test set


def test_imagenet_a_is_scored_among_its_classes(tmp_path):
    folders(
        folders(tmp_path / "own", load_wordnet_ids(), each=1),
        load_wordnet_ids(),
        split="val",
        each=1,
    )
    folders(
        tmp_path / "a", [load_wordnet_ids()[y] for y in load_subset_labels("a")], each=1, split="."
    )
    own = {"imagefolder": {"path": str(tmp_path / "own"), "version": "1", "size": 16}}
    of_a = {"path": str(tmp_path / "a"), "version": "1", "size": 16, "test": ".", "subset": "a"}
    others = {"a": {"source": {"imagefolder": of_a}, "train": 0, "test": 200}}
    found = made(make_plan_from_dict(experiment(tmp_path, own, others, train=16, test=64)))
    table = pq.read_table(found["evaluation/s-0.a"].get_verified_path("outcomes.parquet"))
    assert set(table["label"].to_pylist()) == set(load_subset_labels("a"))
    assert set(table["prediction"].to_pylist()) <= set(load_subset_labels("a"))
    clean = pq.read_table(found["evaluation/s-0.main"].get_verified_path("outcomes.parquet"))
    assert not set(clean["prediction"].to_pylist()) <= set(load_subset_labels("a"))


REFUSED = [
    (
        {"folders": list(CLASSES[:2])},
        4,
        f"suites.v2.dataset: 'v2' has other classes than 'own', which 's-0' knows (it lacks "
        f"'{CLASSES[2]}'); name a data set",
    ),
    (
        {"folders": [*CLASSES[1:], CLASSES[0]]},
        6,
        "suites.v2.dataset: 'v2' has other classes than 'own', which 's-0' knows (the same in "
        f"another order: label 0 is '{CLASSES[1]}' there and '{CLASSES[0]}' here)",
    ),
    ({"folders": [*CLASSES[:2], "x"]}, 6, "suites.v2.dataset: 'v2' has other classes than 'own'"),
    ({"size": 16}, 6, "suites.v2.dataset: 's-0' knows images of another size than those of data"),
    ({}, 0, "datasets.v2.train: 0 images; ask for some"),
]


@pytest.mark.parametrize(("change", "test", "message"), REFUSED)
def test_other_sets_must_fit_the_models(change, test, message, small):
    raw = with_no_training(small)
    raw["datasets"]["v2"]["source"]["imagefolder"] |= change
    raw["datasets"]["v2"]["test"] = test
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(raw)
    assert str(caught.value).startswith(message)


def test_a_set_for_testing_trains_nobody(small):
    raw = with_no_training(small)
    raw["students"]["s"]["dataset"] = "v2"
    with pytest.raises(RetortError, match="students.s.dataset: 'v2' has no training images"):
        make_plan_from_dict(raw)
