"""Several warm-ups of a generator: planned by seed, each student on its own, one row in tables."""

from types import SimpleNamespace

import pytest

from pipeline.errors import RetortError
from pipeline.planning.graph import plan_from
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
    plan = plan_from(seeded([0, 1], [0, 1]))
    assert plan.names["generator", "derd.seed0"] == plan_from(tiny()).names["generator", "derd"]
    for seed in (0, 1):
        ref = plan.names["generator", f"derd.seed{seed}"]
        assert plan.entries[ref].spec["seed"] == seed
        assert "seeds" not in plan.entries[ref].spec
        student = plan.entries[plan.names["student", f"derd-{seed}"]]
        assert student.inputs["generator"].ref == ref
        evaluation = plan.entries[plan.names["evaluation", f"derd.seed{seed}-warm.main"]]
        assert evaluation.inputs["model"].ref == ref


def test_one_warm_up_serves_students_of_any_seed():
    raw = tiny()
    raw["students"]["derd"]["seeds"] = [0, 1]
    plan = plan_from(raw)
    refs = {
        plan.entries[plan.names["student", f"derd-{s}"]].inputs["generator"].ref for s in (0, 1)
    }
    assert refs == {plan.names["generator", "derd"]}


def test_a_seed_that_was_not_warmed_up_is_named():
    with pytest.raises(RetortError) as caught:
        plan_from(seeded([0, 1], [0, 2]))
    expected = "students.derd.generator: 'derd' has seeds 0, 1, not 2; add it there"
    assert str(caught.value) == expected


def test_the_warm_students_of_all_seeds_are_one_row():
    names = ("generator/derd.seed0", "generator/derd.seed1", "generator/other")
    artifacts = {f"generator/{i}": SimpleNamespace(manifest=SimpleNamespace(key=i)) for i in "012"}
    study = Study(artifacts, dict(zip(names, artifacts, strict=True)))
    study.__dict__["outcomes"] = {key: {} for key in "012"}  # evaluated, each of them
    study.__dict__["tested"] = set("012")
    rows = {group.name: len(group.members) for group in study.groups}
    assert rows == {"derd (stage I)": 2, "other (stage I)": 1}
