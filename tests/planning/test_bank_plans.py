"""What is said of banks before a job starts: keys that stay, keys that move, and refusals."""

import pytest

from pipeline.banks.shards import DEFAULT_SPEC, list_fields
from pipeline.config.specs import get_spec
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.planning.test_plan import edited, keys, small


def bank(**fields: object) -> dict:
    """The small experiment with the bank's section changed; None drops a field."""
    raw = small()
    section = {**raw["banks"]["dad"], **fields}
    raw["banks"]["dad"] = {k: v for k, v in section.items() if v is not None or k == "attack"}
    return raw


def entry(raw: dict):
    plan = make_plan_from_dict(raw)
    return plan.artefacts[plan.refs_by_name["bank", "dad"]]


def student(raw: dict, **fields: object) -> dict:
    raw["students"]["dad"] |= fields
    return raw


OUTPUTS = {"discretizer": None, "reject": None}
STUDENT_ALONE = {"objective": "kd"}


@pytest.mark.parametrize(
    "fields",
    [
        {"encoding": "auto"},
        {"encoding": "blocks"},
        {"tokens": False},
        {"outputs": {}},
        {"outputs": {"top_k": 0, "clean": True}},
        {"attack": {}},
    ],
)
def test_what_changes_nothing_is_in_no_key(fields):
    assert keys(bank(**fields)) == keys(small())


def test_what_changes_bytes_moves_the_bank_and_its_students():
    changes = (
        {"tokens": True},
        {"encoding": "png"},
        {"encoding": "jpeg"},
        {"encoding": "jpeg", "quality": 90},
        {"outputs": {"top_k": 3}},
        {"outputs": {"top_k": 3, "temperature": 4}},
        {"outputs": {"clean": False}},
        {"views": {"count": 2}},
        {"views": {"count": 3}},
        {"attack": None},
    )
    found = [keys(student(bank(**c), objective="dad_augment")) for c in changes]
    assert len({k["bank/dad"] for k in found} | {keys(small())["bank/dad"]}) == len(changes) + 1
    assert len({k["student/dad-0"] for k in found}) == len(changes)
    assert len({k["student/rslad-0"] for k in found}) == 1


def test_without_steps_and_noise_nothing_of_an_attack_counts():
    still = {"steps": 0, "start_probability": 0}
    made = {entry(bank(attack=a)).key for a in (None, still, {**still, "eps": 1, "norm": "linf"})}
    assert len(made) == 1
    assert entry(bank(attack=still)).spec["attack"] is None
    assert entry(bank(attack={"steps": 0})).spec["attack"] is not None


def test_a_bank_without_a_discretiser_has_neither_attack_nor_filter():
    found = entry(student(bank(**OUTPUTS), **STUDENT_ALONE))
    assert found.spec == {"seed": 0, "device": "cpu", "shards": 2, "block": 64}
    assert set(found.inputs) == {"dataset", "teacher"}
    assert list_fields(get_spec(found)) == ("row", "label", "t_clean")
    assert "x_adv" in list_fields(DEFAULT_SPEC)


def test_large_images_are_pictures_unless_it_is_said_otherwise():
    raw = student(bank(), dataset="large")
    raw["datasets"]["large"] = {"source": {"imagenet100": {"size": 128}}, "train": 512, "test": 64}
    for section, name in (("banks", "dad"), ("discretizers", "vq"), ("teachers", "natural")):
        raw[section][name]["dataset"] = "large"
    raw["students"] = {"dad": raw["students"]["dad"]}
    assert entry(raw).spec["encoding"] == "png"
    raw["banks"]["dad"]["encoding"] = "blocks"
    assert "encoding" not in entry(raw).spec


def test_code_that_few_banks_use_is_in_their_keys_alone():
    assert not {
        "pipeline.core.topk_logits",
        "pipeline.banks.image_codec",
        "pipeline.banks.stored_views",
    } & set(entry(bank()).code)
    for fields, module in (
        ({"outputs": {"top_k": 3}}, "core.topk_logits"),
        ({"encoding": "jpeg"}, "banks.image_codec"),
        ({"views": {}}, "banks.stored_views"),
        ({"views": {}}, "core.seeding"),
        ({"reject": "keep"}, "banks.rejected"),
    ):
        assert f"pipeline.{module}" in entry(bank(**fields)).code
    assert "pipeline.banks.rejected" not in entry(bank(reject="drop")).code


AUGMENTED = {"recipe": {"epochs": 1, "batch": 64, "augment": "flip"}}
MIXED = {"recipe": {"epochs": 1, "batch": 64, "augment": "none", "mixup": 0.8}}
REFUSED = [
    ({"discretizer": None}, {}, "banks.dad: reject: goes with 'discretizer'; name one, or drop"),
    ({**OUTPUTS, "attack": {}}, {}, "banks.dad: attack: goes with 'discretizer'"),
    ({**OUTPUTS, "outputs": {"clean": False}}, {}, "outputs.clean: without a discretizer nothing"),
    ({"quality": 90}, {}, "banks.dad: quality: goes with 'encoding: jpeg'; drop it"),
    ({"views": {"augment": "none"}}, {}, "banks.dad.views: the views change nothing"),
    ({"outputs": {"top_k": 10}}, {}, "banks.dad.outputs.top_k: 10 of 10 classes; ask for fewer"),
    ({"encoding": "tokens"}, {}, "students.dad.bank: 'dad' holds tokens without pixels"),
    ({"views": {}}, AUGMENTED, "students.dad.recipe: bank 'dad' has views of its own"),
    ({"views": {}}, MIXED, "students.dad.recipe: bank 'dad' has views of its own"),
    (OUTPUTS, AUGMENTED | STUDENT_ALONE, "bank 'dad' holds outputs on images as they are"),
    (OUTPUTS, {}, "objective 'dad' needs a bank of adversarial samples"),
    ({"outputs": {"clean": False}}, {}, "objective 'dad' needs a teacher, or a bank of its"),
    ({}, MIXED, "objective 'dad' needs a teacher, or a bank of its"),
]


@pytest.mark.parametrize(("section", "fields", "words"), REFUSED)
def test_what_does_not_fit_is_one_line(section, fields, words):
    raw = bank(**section)
    if "attack" not in section:
        raw["banks"]["dad"].pop("attack", None)
    with pytest.raises(RetortError) as error:
        make_plan_from_dict(student(raw, **fields))
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("objective", ["dad", "dist", "kd", "rslad", "rslad_dad", "ard_dad"])
@pytest.mark.parametrize("views", [None, {"mixup": 0.8, "cutmix": 1.0, "rand_augment": 9}])
def test_no_teacher_is_named_where_a_bank_gives_its_outputs(objective, views):
    make_plan_from_dict(student(bank(views=views) | {}, objective=objective))


def test_mixing_goes_with_a_live_teacher():
    raw = student(edited("students.dad.teacher", "natural", bank()), **MIXED)
    assert make_plan_from_dict(raw).refs_by_name["student", "dad-0"]
