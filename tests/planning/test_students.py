"""What a student of every form is shown and given, stated by hand."""

import pytest

from pipeline.config.reader import Config, parse_config
from pipeline.datasets import cifar10, cifar100
from pipeline.planning.compatibility.students import (
    StudentInputs,
    describe_student,
    find_model_dataset,
    list_model_classes,
)
from tests.helpers.graph import tiny

TEN, HUNDRED = cifar10.CLASSES, cifar100.CLASSES
NPZ = {"path": "made.npz", "version": "1"}
PLAIN = {"model": "resnet8-s2-w8", "objective": "rslad"}
AS_IS = {"epochs": 1, "batch": 64, "augment": "none"}


def config_with(**student: object) -> Config:
    """The tiny experiment, read, with more data sets, banks, generators, and one student more."""
    raw = tiny()
    raw["datasets"] |= {
        "other": {"source": "cifar100", "train": 512},
        "made": {"source": {"npz": NPZ}, "train": 512},
        "bare": {"source": {"npz": {**NPZ, "classes_of": "none"}}, "train": 512},
    }
    raw["banks"] |= {
        "outputs": {"dataset": "tiny", "teacher": "clip", "shards": 2, "block": 64},
        "bare": {**raw["banks"]["dad"], "dataset": "bare"},
    }
    inverted = {k: v for k, v in raw["generators"]["derd"].items() if k != "replayed"}
    raw["generators"]["inverted"] = inverted | {"rounds": {"iterations": 1}}
    raw["students"]["new"] = PLAIN | student
    return parse_config(raw)


def on_data(**differing: object) -> StudentInputs:
    """A student of CIFAR-10's images and labels alone, but for what differs."""
    usual = {
        "dataset": "tiny",
        "generator": None,
        "classes_from": "tiny",
        "classes": TEN,
        "roles": (),
        "stored": (),
        "has_labels": True,
        "extracts": False,
        "discretizer": None,
    }
    return StudentInputs(**usual | differing)


def on_generator(**differing: object) -> StudentInputs:
    """A student of generated images, but for what differs."""
    return on_data(**{"dataset": None, "generator": "derd", "has_labels": False} | differing)


ON_BANK = {"dataset": "tiny", "bank": "dad", "recipe": AS_IS}
SAMPLES, OUTPUTS = ("x_adv", "y_adv", "paired", "mixed_together"), ("t_clean", "t_adv")
ON_DERD = {"generator": "derd"}
FORMS = {  # name -> the section, what it is shown and given, what its objective may read
    "data set": ({"dataset": "tiny"}, on_data(), ("label",)),
    "teacher": (
        {"dataset": "tiny", "teacher": "robust"},
        on_data(roles=("teacher",)),
        ("label",),
    ),
    "two teachers": (
        {"dataset": "tiny", "teachers": {"natural": "natural", "robust": "robust"}},
        on_data(roles=("natural", "robust")),
        ("label",),
    ),
    "discretizer": (
        {"dataset": "tiny", "discretizer": "vq"},
        on_data(discretizer="vq"),
        ("label", "discretizer"),
    ),
    "unlabelled data set": (
        {"dataset": "bare"},
        on_data(dataset="bare", classes_from="bare", classes=(), has_labels=False),
        (),
    ),
    "bank": (ON_BANK, on_data(stored=SAMPLES + OUTPUTS), (*SAMPLES, *OUTPUTS, "label")),
    "bank, augmented": (
        ON_BANK | {"teacher": "clip", "recipe": {**AS_IS, "augment": "flip"}},
        on_data(roles=("teacher",), stored=SAMPLES),
        (*SAMPLES, "label"),
    ),
    "bank of outputs": (
        ON_BANK | {"bank": "outputs"},
        on_data(stored=("t_clean",)),
        ("t_clean", "label"),
    ),
    "bank without labels": (
        ON_BANK | {"dataset": "bare", "bank": "bare"},
        on_data(
            dataset="bare",
            classes_from="bare",
            classes=(),
            stored=SAMPLES + OUTPUTS,
            has_labels=False,
        ),
        SAMPLES + OUTPUTS,
    ),
    "extracting from other classes": (
        {"dataset": "other", "teacher": "robust"},
        on_data(dataset="other", roles=("teacher",), has_labels=False, extracts=True),
        (),
    ),
    "extracting from no classes": (
        {"dataset": "bare", "teacher": "robust"},
        on_data(dataset="bare", roles=("teacher",), has_labels=False, extracts=True),
        (),
    ),
    "extra data": (
        {"dataset": "tiny", "extra": {"dataset": "made", "share": 0.5}},
        on_data(),
        ("label",),
    ),
    "label-free extra data": (
        {"dataset": "tiny", "teacher": "robust", "extra": {"dataset": "bare", "share": 0.5}},
        on_data(roles=("teacher",), has_labels=False),
        (),
    ),
    "generator": (
        ON_DERD | {"teacher": "natural"},
        on_generator(roles=("teacher",), stored=("t_clean",)),
        ("t_clean", "generated"),
    ),
    "generator, two teachers": (
        ON_DERD | {"teachers": {"natural": "natural", "robust": "robust"}},
        on_generator(roles=("natural", "robust"), stored=("t_clean",)),
        ("t_clean", "generated"),
    ),
    "generator of another teacher": (
        ON_DERD | {"teachers": {"natural": "clip", "robust": "natural"}},
        on_generator(roles=("natural", "robust")),
        ("generated",),
    ),
    "generator with surrogate": (
        ON_DERD | {"teachers": {"robust": "natural"}, "surrogate": 1},
        on_generator(roles=("robust", "natural")),
        ("generated",),
    ),
    "generator in rounds": (
        {"generator": "inverted", "teacher": "natural"},
        on_generator(generator="inverted", roles=("teacher",)),
        ("generated",),
    ),
}
LABELS_DROPPED = {
    "unlabelled data set",
    "bank without labels",
    "extracting from other classes",
    "extracting from no classes",
    "label-free extra data",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_student_is_described(form):
    section, stated, given = FORMS[form]
    config = config_with(**section)
    inputs = describe_student(config, config.students["new"])
    assert inputs == stated
    assert inputs.list_given == given
    assert inputs.drops_labels == (form in LABELS_DROPPED)


def test_what_a_student_knows_goes_on_to_its_own_students():
    """A student of other images knows its teacher's classes, and so does the next in line."""
    raw = tiny()
    raw["datasets"]["other"] = {"source": "cifar100", "train": 512}
    raw["students"] = {
        "first": PLAIN | {"dataset": "other", "teacher": "robust"},
        "second": PLAIN | {"dataset": "other", "teacher": "first"},
        "alone": PLAIN | {"dataset": "other"},
    }
    config = parse_config(raw)
    second = describe_student(config, config.students["second"])
    assert second.classes_from == "tiny" and second.extracts
    assert (find_model_dataset(config, "second"), find_model_dataset(config, "alone")) == (
        "tiny",
        "other",
    )
    assert (list_model_classes(config, "first"), list_model_classes(config, "alone")) == (
        TEN,
        HUNDRED,
    )
