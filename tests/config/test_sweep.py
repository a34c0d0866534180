"""Grids: one section for each value."""

import pytest

from pipeline.config.sweep import expand_grids
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.graph import tiny


def test_an_entry_without_a_grid_stays():
    assert expand_grids("students", {"a": {"x": 1}, "b": "text"}) == {"a": {"x": 1}, "b": "text"}


def test_two_grids_multiply_in_order():
    laid = expand_grids(
        "students", {"a": {"x": {"grid": [1, 2]}, "y": {"z": {"grid": ["8/255", 0.1]}}}}
    )
    assert laid == {
        "a.x=1.z=8_255": {"x": 1, "y": {"z": "8/255"}},
        "a.x=1.z=0.1": {"x": 1, "y": {"z": 0.1}},
        "a.x=2.z=8_255": {"x": 2, "y": {"z": "8/255"}},
        "a.x=2.z=0.1": {"x": 2, "y": {"z": 0.1}},
    }


def test_options_that_go_together():
    pairs = [{"eps": "8/255", "step": "2/255"}, {"eps": "16/255", "step": "4/255"}]
    laid = expand_grids("students", {"a": {"objective": {"adaad": {"grid": pairs}}}})
    assert laid == {
        "a.eps=8_255.step=2_255": {"objective": {"adaad": pairs[0]}},
        "a.eps=16_255.step=4_255": {"objective": {"adaad": pairs[1]}},
    }


@pytest.mark.parametrize("values", [[], 3])
def test_a_grid_must_list_values(values):
    with pytest.raises(RetortError, match=r"students\.a\.x\.grid: a list of values is expected"):
        expand_grids("students", {"a": {"x": {"grid": values}}})


def test_a_student_with_a_grid_is_one_student_a_value():
    raw = tiny()
    plain = make_plan_from_dict(raw).refs_by_name
    raw["students"]["rslad"]["objective"] = {"rslad": {"steps": {"grid": [2, 3]}}}
    names = make_plan_from_dict(raw).refs_by_name
    assert names["student", "rslad.steps=2-0"] == plain["student", "rslad-0"]
    assert ("student", "rslad.steps=3-0") in names
    assert ("student", "rslad-0") not in names
