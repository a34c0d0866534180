"""Batches cut into parts: refused where a method must see each as a whole."""

import pytest

from pipeline.core.batch import needs_whole_batch
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.planning.test_plan import edited, small

WHOLE = {"crdnd_like", "darwin", "darwin_lf", "derd", "dfard_like", "dfhl_rs", "dist"}
WHOLE |= {"gacd_like", "mtard", "b_mtard", "ciard", "saad"}
KD, VQ = "students.kd", "discretizers.vq"
PARTS = {"epochs": 1, "batch": 64, "accumulate": 4}


def fault(raw: dict) -> str:
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(raw)
    return str(caught.value)


def test_these_methods_need_the_whole_batch():
    kinds = {
        name: load_plugin("objectives", name).Objective for name in list_plugin_names("objectives")
    }
    assert {name for name, kind in kinds.items() if needs_whole_batch(kind)} == WHOLE


@pytest.mark.parametrize(
    ("objective", "reason"),
    [
        ("dist", "it correlates over the samples"),
        ({"darwin": {"steps": 2}}, "eq. 5's maximum and the pairs are those of the batch"),
        ("crdnd_like", "it compares each sample with the others"),
    ],
)
def test_such_a_student_is_refused_parts(objective, reason):
    raw = edited(f"{KD}.objective", objective, edited(f"{KD}.recipe", PARTS))
    (name,) = [objective] if isinstance(objective, str) else objective
    assert fault(raw) == (
        f"{KD}.recipe.accumulate: objective '{name}' needs a batch as a whole, not in 4 parts: "
        f"{reason}; drop it, and use more 'gpus' or a smaller 'batch'"
    )


@pytest.mark.parametrize("recipe", [{**PARTS, "accumulate": 1}, {"epochs": 1, "gpus": 4}])
def test_several_gpus_are_no_parts(recipe):
    make_plan_from_dict(edited(f"{KD}.objective", "dist", edited(f"{KD}.recipe", recipe)))


def test_other_objectives_are_given_parts():
    plan = make_plan_from_dict(edited(f"{KD}.recipe", PARTS))
    entry = plan.artefacts[plan.refs_by_name["student", "kd-0"]]
    assert entry.spec["recipe"]["accumulate"] == 4


@pytest.mark.parametrize(("rule", "refused"), [("adaptive", True), ("constant", False)])
def test_an_adaptive_discriminator_is_refused_parts(rule, refused):
    raw = edited(f"{VQ}.adversarial", {"rule": rule, "layers": 1, "width": 8})
    raw["discretizers"]["vq"]["recipe"]["accumulate"] = 2
    if refused:
        assert fault(raw).startswith(
            f"{VQ}.recipe.accumulate: the rule 'adaptive' of 'adversarial' needs a batch as a whole"
        )
    else:
        make_plan_from_dict(raw)


def test_a_plain_discretizer_is_given_parts():
    raw = small()
    raw["discretizers"]["vq"]["recipe"]["accumulate"] = 2
    make_plan_from_dict(raw)
