"""Students of DAD's family: what the plan gives them and refuses, and DAT trained through Q."""

import pytest

from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.graph import DATA
from tests.helpers.making import made
from tests.planning.test_plan import small


def student(objective: object, **more: object) -> dict:
    """The small experiment with one student more."""
    raw = small()
    raw["students"]["new"] = {"dataset": "tiny", "model": "resnet8-s2-w8", "objective": objective}
    raw["students"]["new"] |= {"recipe": {"epochs": 1, "batch": 64, "augment": "none"}} | more
    return raw


def planned(raw: dict):
    plan = make_plan_from_dict(raw)
    return plan.artefacts[plan.refs_by_name["student", "new-0"]]


@pytest.mark.parametrize("name", ["dad", "dad_release", "dad_augment"])
def test_a_bank_gives_samples_labels_and_outputs(name):
    entry = planned(student(name, bank="dad"))
    assert set(entry.inputs) == {"dataset", "bank"}


def test_dat_has_the_discretizer_among_its_inputs_and_its_code_in_the_key():
    entry = planned(student("dat", discretizer="vq"))
    assert set(entry.inputs) == {"dataset", "discretizer"}
    assert {"pipeline.models.vqgan", "pipeline.objectives.dat"} <= set(entry.code)
    assert "pipeline.models.vqgan" not in planned(student("natural")).code
    both = planned(student("dat_dad", discretizer="vq", bank="dad"))
    assert set(both.inputs) == {"dataset", "discretizer", "bank"}


REFUSED = [
    ("dat", {}, "students.new: objective 'dat' needs a discretizer; it is given label"),
    ("dat", {"discretizer": "vg"}, "students.new.discretizer: discretizers has no 'vg'; known: vq"),
    ("natural", {"discretizer": "vq"}, "students.new.discretizer: objective 'natural' does not"),
    ("dad_augment", {}, "students.new: objective 'dad_augment' needs a bank of adversarial"),
    ("dat_dad", {"discretizer": "vq"}, "students.new: objective 'dat_dad' needs a bank"),
]


@pytest.mark.parametrize(("objective", "more", "message"), REFUSED)
def test_what_does_not_fit_is_refused_before_a_job_starts(objective, more, message):
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(student(objective, **more))
    assert str(caught.value).startswith(message)


def test_samples_of_mixed_views_cannot_be_mixed_with_clean_images():
    raw = student("dad_release", bank="dad")
    raw["banks"]["dad"]["views"] = {"count": 2, "augment": "flip"}
    make_plan_from_dict(raw)
    raw["banks"]["dad"]["views"]["mixup"] = 0.8
    with pytest.raises(RetortError, match="needs a bank's samples that Mixup may mix with clean"):
        make_plan_from_dict(raw)
    raw["students"]["new"]["objective"] = "dad"
    make_plan_from_dict(raw)


def test_a_dat_student_is_trained(tmp_path):
    raw = student("dat", discretizer="vq", recipe={"epochs": 1, "batch": 32, "augment": "flip"})
    raw |= {"store": str(tmp_path / "store"), "suites": {}, "teachers": {}, "banks": {}}
    raw |= {"run": {"data": str(DATA)}, "students": {"new": raw["students"]["new"]}}
    raw["datasets"]["tiny"] = {"source": "cifar10", "train": 64, "test": 32}
    manifest = made(make_plan_from_dict(raw))["student/new-0"].manifest
    record = manifest.facts["last"]
    assert set(manifest.inputs) == {"dataset", "discretizer"}
    assert record["ce_adv"] > 0 and record["ce_adv"] != record["ce"]
