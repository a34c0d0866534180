"""Work that other code was planned for is refused; what other code has made is named."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.store.artefact import Job, Manifest
from pipeline.store.code_revisions import collect_revisions, compute_fingerprint
from pipeline.upkeep.code_drift import check_code, list_code_changes, lost_modules
from tests.helpers.graph import tiny

MODULE = "pipeline.objectives.rslad"
CODE = collect_revisions(MODULE)
JOB = Job(Path("store/student/k"), "student", "s", "k", {}, {}, CODE)
MADE = Manifest("student", "s", "k", {}, {}, {}, {}, CODE, compute_fingerprint(*CODE))


def test_todays_code_may_work():
    check_code(JOB)
    check_code(replace(JOB, strict=compute_fingerprint(*CODE)))
    check_code(replace(JOB, code={}))
    assert list_code_changes(MADE) == []
    assert list_code_changes(replace(MADE, fingerprint="")) == []


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            {**CODE, MODULE: 99},
            f"was planned for {MODULE} REVISION 99, the code has {CODE[MODULE]}",
        ),
        ({**CODE, "pipeline.gone": 1}, "pipeline.gone REVISION 1, the code has none"),
    ],
)
def test_work_for_other_code_is_refused(code, words):
    with pytest.raises(RetortError, match=words) as caught:
        check_code(replace(JOB, code=code))
    assert "\n" not in str(caught.value)


def test_strict_work_for_edited_code_is_refused():
    with pytest.raises(RetortError, match="strict_code: its components were edited since"):
        check_code(replace(JOB, strict="0123456789abcdef"))


def test_what_other_code_made_is_named():
    assert list_code_changes(replace(MADE, code={**CODE, MODULE: 99})) == [
        f"{MODULE} 99 (now {CODE[MODULE]})"
    ]
    assert list_code_changes(replace(MADE, code={**CODE, "pipeline.gone": 1})) == [
        "pipeline.gone 1 (now gone)"
    ]
    edited = replace(MADE, fingerprint="0123456789abcdef")
    assert list_code_changes(edited) == ["the same revisions, but edited since"]


def test_a_users_plug_in_of_another_configuration_is_no_lost_module():
    code = {"retort_plugins.objectives.mine": "0123456789abcdef", "pipeline.gone": 1}
    assert lost_modules(replace(MADE, code=code)) == ["pipeline.gone"]


def test_strict_code_is_in_every_key():
    loose, strict = (
        make_plan_from_dict(tiny()),
        make_plan_from_dict({**tiny(), "strict_code": True}),
    )
    assert loose.artefacts.keys().isdisjoint(strict.artefacts)
    assert loose.refs_by_name.keys() == strict.refs_by_name.keys()
    for entry in strict.artefacts.values():
        assert entry.code_fingerprint == compute_fingerprint(*entry.code)
        assert all(parent.code_fingerprint for parent in entry.inputs.values())
