"""The verb `why`: nothing to do, a field, an input's field, a component, an empty store."""

from pipeline.cli.explain_key import ABSENT, explain_code, list_differences
from tests.helpers.graph import tiny

CONFIG = ("--configfile", "experiment.yaml")


def test_what_is_made_needs_nothing(copy):
    status, printed = copy.run("why", "rslad", *CONFIG)
    assert status == 0
    assert printed.strip().endswith("): made; nothing would run for it")


def test_a_field_and_an_inputs_field(copy):
    raw = tiny()
    raw["students"]["rslad"]["objective"] = {"rslad": {"steps": 3}}
    raw["teachers"]["robust"]["objective"]["pgd_at"]["steps"] = 3
    copy.write(raw)
    old = {name: copy.place(name).name for name in ("student/rslad-0", "teacher/robust")}
    status, printed = copy.run("why", "student/rslad-0", *CONFIG)
    lines = printed.splitlines()
    assert status == 0
    assert lines[0].endswith("): not made; 'retort run' makes it")
    assert lines[1].startswith("  and before it teacher robust (")
    near = f"nearest finished: student rslad-0 ({old['student/rslad-0']}), which differs in"
    assert lines[2] == near
    assert lines[3] == "  objective.rslad.steps: 3 here, 2 there"
    assert lines[4].startswith("  input teachers.teacher: teacher/")
    assert lines[4].endswith(f"teacher/{old['teacher/robust']} there")
    assert lines[5:] == ["    objective.pgd_at.steps: 3 here, 2 there"]


def test_an_empty_store_and_an_unknown_name(copy):
    copy.write(tiny() | {"store": "elsewhere"})
    printed = copy.run("why", "teacher/natural", *CONFIG)[1]
    assert printed.splitlines()[-1] == "no finished teacher is in elsewhere"
    status, printed = copy.run("why", "teacher/naturel", *CONFIG)
    assert status == 2
    assert printed.strip().endswith("did you mean 'teacher/natural'?")


def test_differences_by_hand():
    here = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {"g": 4}}
    there = {"a": 1, "b": {"c": 5, "d": {"e": 3}}, "h": 6}
    assert list(list_differences(here, there)) == [
        ("b.c", 2, 5),
        ("f", {"g": 4}, ABSENT),
        ("h", ABSENT, 6),
    ]
    here = {"pipeline.core.pgd": 2, "pipeline.objectives.kd": 1}
    there = {"pipeline.core.pgd": 1, "pipeline.objectives.ard": 1, "pipeline.core.batch": 1}
    assert list(explain_code(here, there)) == [
        "code pipeline.core.pgd: REVISION 2 here, 1 there",
        "code only here: objectives.kd",
        "code only there: objectives.ard, core.batch",
    ]
