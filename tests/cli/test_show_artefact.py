"""The verb `show`: made, missing, older and unknown artefacts."""

from tests.helpers.graph import tiny

CONFIG = ("--configfile", "experiment.yaml")


def test_a_made_artefact(copy):
    status, printed = copy.run("show", "adaad", *CONFIG)
    assert status == 0
    lines = printed.splitlines()
    assert lines[0].startswith("student adaad-0 (")
    assert lines[0].endswith("): made")
    assert "    adaad: {" in printed
    assert "teachers.teacher: teacher/" in printed
    assert "  model.safetensors  " in printed
    assert "objectives.adaad: " in printed
    assert lines[-1].startswith("  20")


def test_a_missing_one_and_one_of_another_configuration(copy):
    raw = tiny()
    raw["students"]["adaad"]["epochs"] = 2
    copy.write(raw)
    key = copy.place("student/adaad-0").name
    status, printed = copy.run("show", "student/adaad-0", *CONFIG)
    assert status == 0
    assert printed.splitlines()[0].endswith("): missing")
    assert "facts:" not in printed
    status, printed = copy.run("show", key, *CONFIG)
    assert status == 0
    assert printed.splitlines()[0] == f"student adaad-0 ({key}): not of this configuration"


def test_what_is_no_name(copy):
    status, printed = copy.run("show", "adaat-0", *CONFIG)
    assert status == 2
    assert "adaat-0: means nothing in store" in printed
    assert "did you mean 'adaad-0'?" in printed
