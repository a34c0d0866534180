"""Several warm-ups of a generator: planned by seed, each student on its own, one row in tables."""

from types import SimpleNamespace

import pytest

from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report.outcomes import Study
from tests.helpers.graph import tiny


def seeded(warm: list[int], students: list[int]) -> dict:
    """The tiny experiment with these seeds of its generator and of its data-free student."""
    raw = tiny()
    raw["generators"]["derd"]["seeds"] = warm
    raw["students"]["derd"]["seeds"] = students
    raw["suites"]["main"]["models"] = "all"
    return raw


def test_a_student_begins_with_the_generator_of_its_seed():
    plan = make_plan_from_dict(seeded([0, 1], [0, 1]))
    assert (
        plan.refs_by_name["generator", "derd.seed0"]
        == make_plan_from_dict(tiny()).refs_by_name["generator", "derd"]
    )
    for seed in (0, 1):
        ref = plan.refs_by_name["generator", f"derd.seed{seed}"]
        assert plan.artefacts[ref].spec["seed"] == seed
        assert "seeds" not in plan.artefacts[ref].spec
        student = plan.artefacts[plan.refs_by_name["student", f"derd-{seed}"]]
        assert student.inputs["generator"].ref == ref
        evaluation = plan.artefacts[plan.refs_by_name["evaluation", f"derd.seed{seed}-warm.main"]]
        assert evaluation.inputs["model"].ref == ref


def test_one_warm_up_serves_students_of_any_seed():
    raw = tiny()
    raw["students"]["derd"]["seeds"] = [0, 1]
    plan = make_plan_from_dict(raw)
    refs = {
        plan.artefacts[plan.refs_by_name["student", f"derd-{s}"]].inputs["generator"].ref
        for s in (0, 1)
    }
    assert refs == {plan.refs_by_name["generator", "derd"]}


def test_a_seed_that_was_not_warmed_up_is_named():
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(seeded([0, 1], [0, 2]))
    expected = "students.derd.generator: 'derd' has seeds 0, 1, not 2; add it there"
    assert str(caught.value) == expected


def test_the_warm_students_of_all_seeds_are_one_row():
    names = ("generator/derd.seed0", "generator/derd.seed1", "generator/other")
    artefacts = {f"generator/{i}": SimpleNamespace(manifest=SimpleNamespace(key=i)) for i in "012"}
    study = Study(artefacts, dict(zip(names, artefacts, strict=True)))
    study.__dict__["outcomes_by_model"] = {key: {} for key in "012"}  # evaluated, each of them
    study.__dict__["evaluated_keys"] = set("012")
    rows = {group.name: len(group.members) for group in study.groups}
    assert rows == {"derd (stage I)": 2, "other (stage I)": 1}
