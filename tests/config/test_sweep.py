"""Grids: one section for each value."""

import pytest

from pipeline.config.names import explain_bad_name
from pipeline.config.sweep import expand_grids, list_sweeps
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


METHODS = {"grid": [{"rslad": {"steps": 2}}, {"adaad": {"steps": 2}}]}


def test_methods_with_the_same_options_are_told_apart():
    assert expand_grids("students", {"a": {"objective": METHODS, "x": 1}}) == {
        "a.rslad-steps=2": {"objective": {"rslad": {"steps": 2}}, "x": 1},
        "a.adaad-steps=2": {"objective": {"adaad": {"steps": 2}}, "x": 1},
    }
    several = {"grid": ["kd", {"rslad": {}}, {"rslad": {"eps": "4/255", "step": "1/255"}}]}
    assert list(expand_grids("students", {"a": {"objective": several}})) == [
        "a.objective=kd",
        "a.rslad",
        "a.eps=4_255.step=1_255",
    ]


def test_a_grid_within_a_grid_makes_every_combination():
    inner = {"grid": [1, 2]}
    grid = {"grid": [{"rslad": {"steps": inner}}, {"adaad": {"steps": inner, "eps": inner}}]}
    assert list(
        expand_grids("students", {"a": {"objective": grid, "seeds": {"grid": [0, 1]}}})
    ) == [
        f"a.{method}.seeds={seed}"
        for method in (
            *("steps=1", "steps=2", "steps=1.eps=1", "steps=1.eps=2"),
            *("steps=2.eps=1", "steps=2.eps=2"),
        )
        for seed in (0, 1)
    ]
    assert expand_grids("students", {"a": {"x": {"grid": [1, {"grid": [2, 3]}]}}}) == {
        f"a.x={value}": {"x": value} for value in (1, 2, 3)
    }


def test_names_hold_no_list_and_nothing_that_a_name_may_not():
    values = [[0.5, 0.75], [], "a/b", "a_b", "c\nd", None]
    laid = expand_grids("students", {"a": {"x": {"grid": values}}})
    assert [entry["x"] for entry in laid.values()] == values
    assert list(laid) == ["a.x=0.5,0.75", "a.x=", "a.x=a_b.3", "a.x=a_b.4", "a.x=c_d", "a.x=None"]
    assert not any(explain_bad_name(name) for name in laid)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"x": {"grid": [2, 2]}}, "students.a.x.grid: x=2 is there twice; drop one"),
        ({"x": {"grid": ["8/255", 3, "8/255"]}}, "students.a.x.grid: x=8_255 is there twice"),
        ({"x": {"grid": [0.03, "0.03"]}}, "students.a.x.grid: x=0.03 is there twice"),
        ({"x": {"grid": [2, {"grid": [3, 2]}]}}, "students.a.x.grid: x=2 is there twice"),
        ({"x": {"grid": [{"k": [1], "r": 2}, {"r": "2", "k": ["1"]}]}}, "students.a.x.grid: r=2.k"),
        ({"o": METHODS | {"grid": METHODS["grid"] * 2}}, "students.a.o.grid: rslad-steps=2 is "),
        ({"x": [{"grid": [1, 2]}, 3]}, "students.a.x: a grid stands for a whole value; write"),
        ({"y": {"grid": [{"grid": []}]}}, "students.a.y.grid.grid: a list of values is expected"),
        ({"steps": {"grid": [1, 2]}}, "students.a: its grids make 'a.steps=1', which is there al"),
    ],
)
def test_what_would_lose_a_student_is_an_error(entry, words):
    with pytest.raises(RetortError) as caught:
        expand_grids("students", {"a": entry, "a.steps=1": {}})
    assert str(caught.value).startswith(words)


def test_a_plan_has_every_student_of_a_sweep():
    raw = tiny()
    plain = make_plan_from_dict(raw).refs_by_name
    raw["students"]["rslad"]["objective"] = METHODS
    names = make_plan_from_dict(raw).refs_by_name
    assert names["student", "rslad.rslad-steps=2-0"] == plain["student", "rslad-0"]
    assert names["student", "rslad.adaad-steps=2-0"] == plain["student", "adaad-0"]


def test_sweeps_are_listed_with_their_students():
    students = {"a": {"x": {"grid": [1, 2]}}, "b": {"x": 1}, "c": {"y": {"grid": [1]}}, "d": None}
    assert list_sweeps(students) == {"a": ["a.x=1", "a.x=2"], "c": ["c.y=1"]}


def test_a_student_with_a_grid_is_one_student_a_value():
    raw = tiny()
    plain = make_plan_from_dict(raw).refs_by_name
    raw["students"]["rslad"]["objective"] = {"rslad": {"steps": {"grid": [2, 3]}}}
    names = make_plan_from_dict(raw).refs_by_name
    assert names["student", "rslad.steps=2-0"] == plain["student", "rslad-0"]
    assert ("student", "rslad.steps=3-0") in names
    assert ("student", "rslad-0") not in names
