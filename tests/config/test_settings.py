"""The papers' further settings: generated images beside real ones, and black-box extraction.

From the plan (keys, and errors that name the section) to the trained student, on synthetic arrays.
"""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import pipeline
from pipeline.config.sections.dataset import DatasetSettings
from pipeline.data.mixture import MixedSource, UnlabelledSource
from pipeline.datasets import cifar10
from pipeline.errors import RetortError
from pipeline.models import classifier
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.schema import dump_section
from pipeline.stages import distill, evaluate, prepare_data, train_teacher
from pipeline.store.artefact import Manifest, open_artefact, read_job, write_manifest
from pipeline.training.job_setup import parse_recipe
from tests.planning.test_plan import edited, keys, small, table

STAGES = {
    "dataset": prepare_data,
    "teacher": train_teacher,
    "student": distill,
    "evaluation": evaluate,
}
SUM = "a" * 64


def npz(**options: object) -> dict:
    return {"npz": {"path": "made.npz", "version": "1", **options}}


def wider(**student: object) -> dict:
    """The small experiment with more data sets, and the RSLAD student changed."""
    raw = small()
    raw["datasets"] |= {
        "other": {"source": "cifar100", "train": 512, "val": 64, "test": 64},
        "made": {"source": npz(), "train": 512},
        "bare": {"source": npz(classes_of="none"), "train": 512},
        "large": {"source": npz(size=64), "train": 512},
    }
    raw["students"]["rslad"] |= student
    return raw


def entry(raw: dict, name: str = "rslad-0"):
    plan = make_plan_from_dict(raw)
    return plan.artefacts[plan.refs_by_name["student", name]]


# Keys


def test_a_plain_source_stands_in_the_key_as_it_always_did():
    section = DatasetSettings(source="cifar10", train=512, val=64, test=64)
    assert dump_section(section) == {"source": "cifar10", "train": 512, "val": 64, "test": 64}
    assert DatasetSettings(source={"cifar10": {}}, train=512, val=64, test=64) == section


def test_a_file_s_sum_is_in_the_key_and_its_place_is_not():
    def key(source: object) -> str:
        return keys({"datasets": {"d": {"source": source, "train": 9}}})["dataset/d"]

    def summed(**options: object) -> dict:
        return {"npz": {"path": "a.npz", "sha256": SUM, **options}}

    one = key(summed())
    assert key(summed(path="/b.npz")) == key(summed(size=32)) == one
    assert len({one, key(summed(sha256="b" * 64)), key(summed(size=64)), key(npz())}) == 4
    default = {"path": "", "version": "2015", "size": 32}
    assert (
        key("tinyimagenet") == key({"tinyimagenet": default}) != key({"tinyimagenet": {"size": 64}})
    )


def test_new_settings_move_no_other_key():
    before, after = keys(small()), keys(wider())
    assert before == {name: after[name] for name in before}
    mixed = keys(wider(extra={"dataset": "made", "share": 0.7}))
    assert {n for n in after if after[n] != mixed[n]} == {n for n in after if "rslad" in n}


def test_the_second_data_set_is_an_input_and_its_share_in_the_key():
    mixed = entry(wider(extra={"dataset": "made", "share": 0.7}))
    assert mixed.inputs["extra"].name == "made"
    assert mixed.spec["extra"] == {"share": 0.7}
    assert "label_free" not in mixed.spec
    assert "pipeline.data.mixture" in mixed.code
    plain = entry(wider())
    assert not {"extra", "label_free"} & plain.spec.keys()
    assert "pipeline.data.mixture" not in plain.code
    assert entry(wider(extra={"dataset": "bare", "share": 0.7})).spec["label_free"] is True


def test_an_extracted_student_is_evaluated_on_its_teacher_s_data():
    raw = wider(dataset="other")
    raw["students"]["second"] = {**raw["students"]["rslad"], "teacher": "rslad"}
    plan = make_plan_from_dict(raw)
    for name in ("rslad-0", "second-0"):
        student = plan.artefacts[plan.refs_by_name["student", name]]
        assert student.spec["label_free"] is True
        assert student.inputs["dataset"].name == "other"
        tested = plan.artefacts[plan.refs_by_name["evaluation", f"{name}.linf"]]
        assert tested.inputs["dataset"].name == "tiny"


# Errors


FAULTS = {
    "labels read": (
        {"dataset": "other", "objective": "ard"},
        "students.rslad.teachers.teacher: 'robust' knows 10 classes, data set 'other' has 100, "
        "and objective 'ard' reads labels; name a teacher of the same classes, or an objective",
    ),
    "no labels": (
        {"dataset": "bare", "objective": "darwin"},
        "students.rslad.teachers.teacher: 'robust' knows 10 classes, data set 'bare' has 0, and",
    ),
    "no labels, no teacher": (
        {"dataset": "bare", "teacher": None, "teachers": {}, "objective": "natural"},
        "students.rslad: objective 'natural' needs labels (a data set); it is given nothing",
    ),
    "chosen by": (
        {"dataset": "other", "recipe": {"select_on": "val"}},
        "students.rslad.recipe.select_on: 'robust' knows 10 classes, data set 'other' has 100, "
        "so there are no labels to choose by; use 'last'",
    ),
    "input size": (
        {"dataset": "large"},
        "students.rslad.teachers.teacher: 'robust' knows images of another size than those of",
    ),
    "two teachers": (
        {
            "teacher": None,
            "teachers": {"natural": "natural", "robust": "hundred"},
            "objective": "akd2",
        },
        "students.rslad.teachers.robust: 'hundred' knows 100 classes, the student learns 10;",
    ),
    "extra: unknown": (
        {"extra": {"dataset": "mad", "share": 0.5}},
        "students.rslad.extra.dataset: datasets has no 'mad'; did you mean 'made'?",
    ),
    "extra: size": (
        {"extra": {"dataset": "large", "share": 0.5}},
        "students.rslad.extra.dataset: 'large' has images of another size than 'tiny'; name",
    ),
    "extra: labels": (
        {"extra": {"dataset": "other", "share": 0.5}, "objective": "ard"},
        "students.rslad.extra.dataset: 'other' has 100 classes, data set 'tiny' has 10, and "
        "objective 'ard' reads labels; name images with labels of the same classes, or an",
    ),
    "extra: share": (
        {"extra": {"dataset": "made", "share": 0.001}},
        "students.rslad: extra.share: 0.001 of batch 64 leaves one of the sets out",
    ),
    "extra: bank": (
        {"extra": {"dataset": "made", "share": 0.5}, "bank": "dad"},
        "students.rslad: extra: goes with a data set alone, not with a bank or a generator",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_does_not_fit_is_said_with_the_entry_s_name(fault):
    change, line = FAULTS[fault]
    raw = wider(**change)
    hundred = {"dataset": "other", "model": "resnet8-s2-w8", "recipe": "tiny"}
    raw["teachers"]["hundred"] = hundred
    student = raw["students"]["rslad"]
    raw["students"]["rslad"] = {k: v for k, v in student.items() if v is not None}
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(raw)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


PLACES = {
    "teachers.natural.dataset": ("bare", "teachers.natural.dataset: 'bare' has no labels, so no"),
    "banks.dad.dataset": ("other", "banks.dad.teacher: 'natural' knows 10 classes, data set"),
    "datasets.tiny.source": (
        {"npz": {"path": "a"}},
        "datasets.tiny.source.npz.sha256: give it, or in its place 'version'",
    ),
    "datasets.made.source": (npz(sze=3), "datasets.made.source.npz.sze: unknown; did you mean"),
    "datasets.other.source": (
        {"cifar100": {"a": 1}},
        "datasets.other.source: 'cifar100' has no",
    ),
    "datasets.made.test": (1, "datasets.made.test: 1 images asked for, npz has 0; ask for fewer"),
    "datasets.tiny.test": (0, "discretizers.vq.dataset: 'tiny' has no test images to measure it"),
    "datasets.large.source": (npz(classes_of="npz"), "datasets.large.source.npz.classes_of: 'npz'"),
}


@pytest.mark.parametrize("path", PLACES)
def test_a_data_set_that_does_not_do_is_named(path):
    value, line = PLACES[path]
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(edited(path, value, wider()))
    assert str(caught.value).startswith(line)


# Runs


@pytest.fixture
def world(tmp_path, monkeypatch) -> dict:
    """An experiment on synthetic arrays: a teacher of ten classes, its own images and others."""
    rng = np.random.default_rng(0)
    about = {}
    for name, classes in (("real", 10), ("generated", 10), ("foreign", 100)):
        labels = np.arange(48) % classes
        images = rng.integers(0, 256, (48, 32, 32, 3), np.uint8)
        path = tmp_path / f"{name}.npz"
        np.savez(path, image=images, label=labels)
        about[name] = {"path": str(path), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    about["foreign"]["classes_of"] = "cifar100"
    model = {"model": "resnet8-s2-w2", "recipe": "tiny"}
    rslad = {**model, "teacher": "t", "objective": {"rslad": {"steps": 1}}}
    return {
        "store": str(tmp_path / "store"),
        "recipes": {"tiny": {"epochs": 1, "batch": 8, "augment": "flip", "mixup": 0.2}},
        "datasets": {
            "real": {"source": {"npz": {**about["real"], "test": 8}}, "train": 32, "test": 8},
            "generated": {"source": {"npz": about["generated"]}, "train": 40},
            "foreign": {"source": {"npz": about["foreign"]}, "train": 24, "val": 8},
        },
        "teachers": {"t": {**model, "dataset": "real"}},
        "students": {
            "mixed": {**rslad, "dataset": "real", "extra": {"dataset": "generated", "share": 0.7}},
            "extracted": {**rslad, "dataset": "foreign"},
        },
        "suites": {"main": {"attacks": ["clean"]}},
    }


def made(raw: dict) -> tuple[Plan, dict[str, Manifest]]:
    """The plan and manifests of an experiment, every artefact made in this process."""
    plan = make_plan_from_dict(raw)
    write_job_files(plan)
    found = {}
    for ref, planned in plan.artefacts.items():
        job = read_job(plan.folder_path(ref))
        write_manifest(job, STAGES[planned.kind].run(job))
        found[f"{planned.kind}/{planned.name}"] = open_artefact(job.folder).manifest
    return plan, found


def test_mixed_and_extracted_students_are_trained_and_evaluated(world):
    plan, found = made(world)
    assert found["dataset/real"].facts["counts"] == {"train": 32, "val": 0, "test": 8}
    for name in ("mixed-0", "extracted-0"):
        folder = plan.folder_path(plan.refs_by_name["student", name])
        model = pipeline.load(folder)
        assert model(torch.rand(2, 3, 32, 32)).shape == (2, 10)
        classes = classifier.read_metadata(folder / "model.safetensors")["classes"]
        assert tuple(classes) == cifar10.CLASSES
        accuracy = found[f"evaluation/{name}.main"].facts["accuracy"]
        assert len(accuracy) == 1
    assert "val_clean" not in found["student/extracted-0"].facts["last"]
    again = table(make_plan_from_dict(world))
    assert again == table(plan)

    job = read_job(plan.folder_path(plan.refs_by_name["student", "mixed-0"]))
    data = distill.open_dataset(job.inputs["dataset"])
    source = distill.make_source(job, data, parse_recipe(job))
    assert isinstance(source, MixedSource)
    assert source.steps == 4
    job = read_job(plan.folder_path(plan.refs_by_name["student", "extracted-0"]))
    data = distill.open_dataset(job.inputs["dataset"])
    assert len(data.classes) == 100
    assert isinstance(distill.make_source(job, data, parse_recipe(job)), UnlabelledSource)


def test_a_source_with_too_few_rows_is_said_when_it_is_read(world):
    world["datasets"]["real"]["train"] = 41
    with pytest.raises(RetortError, match="data set real: 41 images asked for, the source has 40"):
        made(world)


def test_the_splits_are_the_rows_that_were_asked_for(world):
    plan, _ = made({**world, "teachers": {}, "students": {}, "suites": {}})
    folder = plan.folder_path(plan.refs_by_name["dataset", "foreign"])
    path = Path(world["datasets"]["foreign"]["source"]["npz"]["path"])
    with np.load(path) as arrays:
        rows = torch.from_numpy(arrays["image"].transpose(0, 3, 1, 2).copy())
    for name, own in (("train", slice(24)), ("val", slice(24, 32)), ("test", slice(0))):
        assert torch.equal(load_file(folder / f"{name}.safetensors")["images"], rows[own])
