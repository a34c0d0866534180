"""Banks in pixel space before a job starts: spec, edges, cycles, refusals, cost, readers."""

import pytest

from pipeline.banks.shards import list_fields
from pipeline.config.reader import parse_config
from pipeline.config.specs import get_spec
from pipeline.errors import RetortError
from pipeline.planning import cost, flops
from pipeline.planning.graph import make_plan_from_dict
from tests.config.test_presets import elsewhere
from tests.helpers.graph import ROOT
from tests.planning.test_plan import keys, small

PGD = {"dataset": "tiny", "teacher": "robust", "shards": 2, "block": 64, "attack": {"eps": "8/255"}}
ALONE = {"epochs": 1, "batch": 64, "augment": "none"}


def planned(student: dict | None = None, **fields: object):
    """The small experiment with one more bank, and `dad` reading it."""
    raw = small()
    raw["banks"]["pgd"] = {**PGD, **fields}
    raw["students"]["dad"] |= {"bank": "pgd", **(student or {})}
    return make_plan_from_dict(raw)


def bank_of(plan):
    return plan.artefacts[plan.refs_by_name["bank", "pgd"]]


def test_defaults_are_pgd_s_with_every_sample_kept():
    found = bank_of(planned())
    assert found.spec == {
        "seed": 0, "device": "cpu", "shards": 2, "block": 64, "reject": "none",
        "attack": {
            "norm": "linf", "eps": 8 / 255, "step": 2 / 255, "steps": 10,
            "start_probability": 1.0, "grad_path": "identity",
        },
    }  # fmt: skip
    assert set(found.inputs) == {"dataset", "teacher"}
    assert {"x_adv", "t_adv", "t_clean"} <= set(list_fields(get_spec(found)))
    assert "pipeline.banks.pixel_attack" in found.code
    written = {"eps": "8/255", "step": "2/255", "steps": 10, "norm": "linf", "loss": "ce"}
    assert bank_of(planned(attack=written, reject="none")).key == found.key


@pytest.mark.parametrize("eps", [0.03, "0.03", " 3e-2", "7.65/255"])
def test_the_default_step_is_a_quarter_of_eps_however_it_is_written(eps):
    attack = bank_of(planned(attack={"eps": eps})).spec["attack"]
    assert (attack["eps"], attack["step"]) == pytest.approx((0.03, 0.0075))


def test_banks_with_a_discretiser_keep_their_keys():
    raw = small()
    raw["banks"]["dad"]["attack"] = {"loss": "ce"}
    assert keys(raw) == keys(small())
    plan = make_plan_from_dict(small())
    code = plan.artefacts[plan.refs_by_name["bank", "dad"]].code
    assert "pipeline.banks.pixel_attack" not in code


@pytest.mark.parametrize("name", ["natural", "rslad"])
def test_a_bank_against_a_teacher_or_a_student_is_made_after_it(name):
    found = bank_of(planned(against=name))
    kind = "teacher" if name == "natural" else "student"
    assert found.inputs["against"].kind == kind
    assert found.spec["attack"]["loss"] == "adaad" and "against" not in found.spec
    assert found.key != bank_of(planned(against="robust", attack={"eps": 0.1, "loss": "rslad"})).key


REFUSED = [
    ({"against": "dad"}, "is made from itself (banks.pgd -> students.dad -> banks.pgd)"),
    ({"against": "nothing"}, "banks.pgd.against: no teacher 'nothing'"),
    ({"attack": {"eps": 0.1, "loss": "adaad"}}, "banks.pgd: attack.loss: 'adaad' compares"),
    ({"attack": {}}, "banks.pgd: attack: goes with 'discretizer'; name one, or drop it; for"),
    ({"attack": None}, "banks.pgd: attack: goes with 'discretizer'; name one, or drop it"),
    ({"attack": {"eps": "1/510"}}, "banks.pgd: attack.eps: is below 1/255"),
    ({"attack": {"eps": 8}}, "banks.pgd.attack.eps: 8 is more than 1"),
    ({"attack": {"norm": "l2", "eps": 200}}, "banks.pgd.attack.eps"),
    ({"attack": {"eps": 0.1, "grad_path": "ste"}}, "banks.pgd: attack.grad_path: 'ste' goes"),
    ({"attack": {"eps": 0.1, "steps": 0, "start_probability": 0}}, "attack: takes no step"),
    ({"encoding": "jpeg"}, "banks.pgd: encoding: a JPEG would leave the ball"),
    ({"encoding": "tokens"}, "banks.pgd: tokens: goes with 'discretizer'"),
    ({"tokens": True}, "banks.pgd: tokens: goes with 'discretizer'"),
    ({"quality": 90}, "banks.pgd: quality: goes with 'encoding: jpeg'"),
    ({"discretizer": "vq", "against": "rslad"}, "banks.pgd: against: goes with an attack in"),
    ({"discretizer": "vq", "attack": {"loss": "rslad"}}, "banks.pgd: attack.loss: goes with"),
    ({"images": "tiny"}, "banks.pgd: attack: does not go with 'images'"),
]


@pytest.mark.parametrize(("fields", "words"), REFUSED)
def test_what_does_not_fit_a_bank_in_pixel_space_is_one_line(fields, words):
    with pytest.raises(RetortError) as error:
        planned(**fields)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_a_reference_of_other_classes_is_refused():
    raw = small()
    raw["datasets"]["other"] = {"source": "cifar100", "train": 256, "val": 0, "test": 8}
    raw["teachers"]["other"] = {**raw["teachers"]["natural"], "dataset": "other"}
    raw["banks"]["pgd"] = {**PGD, "against": "other"}
    with pytest.raises(RetortError, match=r"banks\.pgd\.against: 'other' knows 100 classes"):
        make_plan_from_dict(raw)


@pytest.mark.parametrize("objective", ["dad", "dad_augment", "ard_dad", "rslad_dad", "kd", "rslad"])
@pytest.mark.parametrize("views", [None, {"count": 2}])
def test_objectives_read_a_bank_in_pixel_space_without_a_teacher(objective, views):
    plan = planned({"objective": objective, "recipe": ALONE}, views=views)
    assert "bank" in plan.artefacts[plan.refs_by_name["student", "dad-0"]].inputs


def test_the_cost_of_each_loss_by_hand():
    """512 images: ten steps of 2 F of what the gradient passes, T(x*) and T(x); RSLAD's T(x)."""
    small_flop, _ = flops.measure_classifier("resnet8-s2-w8", (3, 32, 32), 10)
    attack = {"eps": "8/255"}
    for fields, passes in (
        ({}, 20 + 2),
        ({"against": "rslad"}, 40 + 2),
        ({"against": "rslad", "attack": {**attack, "loss": "rslad"}}, 20 + 1 + 2),
        ({"attack": attack, "views": {"count": 3}}, 20 + 2 + 3 * 2),
    ):
        raw = small()
        raw["banks"]["pgd"] = {**PGD, **fields}
        found = cost.compute_bank_cost(parse_config(raw), "pgd")
        assert found.flop == pytest.approx(512 * passes * small_flop)


def test_the_study_of_banks_reads_three_banks_in_two_ways(tmp_path):
    """Twelve students and two without a bank, three seeds each, all in single precision."""
    plan = make_plan_from_dict(elsewhere(ROOT / "workflow" / "which-bank.yaml", tmp_path))
    made = {name: plan.artefacts[ref] for (kind, name), ref in plan.refs_by_name.items()}
    students = [e for e in made.values() if e.kind == "student" and e.name != "reference-0"]
    assert len(students) == 3 * (3 * 2 * 2 + 2)
    assert {e.spec["recipe"]["bf16"] for e in [*students, made["robust"]]} == {"none"}
    assert {e.spec["recipe"]["epochs"] for e in students} == {4}
    assert made["adaad"].kind == "bank"  # a student of several seeds has its seed in its name
    assert made["adaad"].inputs["against"] is made["reference-0"]
    assert made["pgd"].spec["attack"] == made["pgd-views"].spec["attack"]
    assert {name for name in made if name.endswith(".main")} == {f"{e.name}.main" for e in students}
