"""Strict reading: fractions, hints, one line a fault."""

import dataclasses
import re
import types
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pipeline import schema
from pipeline.errors import RetortError
from pipeline.schema import (
    NO_NEUTRAL,
    Number,
    Section,
    build_instance,
    dump_section,
    flatten_options,
    format_validation_error,
    get_defaults,
    list_options,
    make_neutral_field,
    make_plugin,
    parse_fractions,
    parse_named_options,
    read_number,
)


class Inner(Section):
    """A section below another."""

    eps: Number = 0.5
    count: int = 1


class Outer(Section):
    """A section with sections in it."""

    inner: Inner = Inner()
    many: dict[str, Inner] = {}


@dataclasses.dataclass(frozen=True)
class Gadget:
    """A plug-in with a check of its own."""

    eps: float = 0.1
    steps: int = 10

    def __post_init__(self):
        if self.eps < 0:
            raise ValueError(f"eps: {self.eps:g} is negative")


@pytest.fixture
def gadgets(monkeypatch):
    """`make` finds one plug-in, called gadget."""
    monkeypatch.setattr(
        schema, "load_plugin", lambda folder, name: types.SimpleNamespace(Made=Gadget)
    )


@given(top=st.integers(-1000, 1000), bottom=st.integers(1, 1000))
def test_a_fraction_is_its_quotient(top, bottom):
    assert parse_fractions(f"{top}/{bottom}") == top / bottom
    assert parse_fractions(f" {top} / {bottom} ") == top / bottom


@pytest.mark.parametrize(
    ("text", "value"), [("8/255", 8 / 255), ("3.33/255", 3.33 / 255), ("-1/2", -0.5), ("1e2/4", 25)]
)
def test_fractions(text, value):
    assert parse_fractions(text) == value
    assert parse_fractions({"a": [text, 1], "b": (text, "x")}) == {
        "a": [value, 1],
        "b": [value, "x"],
    }


GIVEN = [0.03, "0.03", " 3e-2 ", "8/255", 8, "8", True, "true", None, "", "x", "inf", "1/0", [1]]


@pytest.mark.parametrize("given", GIVEN)
def test_a_number_is_read_as_a_section_reads_it(given):
    try:
        expected = Inner.model_validate({"eps": given}).eps
    except ValidationError:
        expected = None
    assert read_number(given) == expected


@pytest.mark.parametrize(
    "text", ["8/0", "8/0.0", "1.2.3/4", "a/b", "1/2/3", "8", "/2", "", None, 3]
)
def test_anything_else_stays(text):
    assert parse_fractions(text) == text


def fault(model: type[BaseModel], value: object, *above: str) -> str:
    """The rendered error of a value."""
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    line = format_validation_error(caught.value, model, *above)
    assert "\n" not in line
    return line


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"inner": {"esp": 1}}, "inner.esp: unknown; did you mean 'eps'?"),
        ({"iner": {}}, "iner: unknown; did you mean 'inner'?"),
        ({"many": {"a": {"zzz": 1}}}, "many.a.zzz: unknown; known: count, eps"),
        ({"many": {"{eps}": {"{key}": 1}}}, "many.{eps}.{key}: unknown; known: count, eps"),
    ],
)
def test_unknown_keys_have_their_path_and_a_hint(value, line):
    assert fault(Outer, value) == line


def test_wrong_values_have_their_path_and_what_was_given():
    assert fault(Outer, {"inner": {"eps": "x"}}).startswith("inner.eps: ")
    assert fault(Outer, {"inner": {"eps": "x"}}).endswith("(got 'x')")
    assert fault(Outer, 5, "recipes", "tiny").startswith("recipes.tiny: ")
    assert fault(Outer, {"inner": {"zz": 0}}, "top").startswith("top.inner.zz: unknown")
    for wrong in (float("nan"), float("inf")):
        assert fault(Outer, {"inner": {"eps": wrong}}).startswith("inner.eps: a finite number is")


def test_sections_take_fractions_and_do_not_change():
    made = Outer.model_validate({"inner": {"eps": "8/255"}})
    assert made.inner.eps == 8 / 255
    with pytest.raises(ValidationError):
        made.inner.eps = 1


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("natural", ("natural", {})),
        ({"kd": {"alpha": 1}}, ("kd", {"alpha": 1})),
        ({"kd": {}}, ("kd", {})),
        ({"kd": None}, ("kd", {})),
    ],
)
def test_a_name_with_or_without_options(value, expected):
    assert parse_named_options(value) == expected


@pytest.mark.parametrize("value", [5, None, {}, {"a": {}, "b": {}}, {"a": 5}, ["a"]])
def test_anything_else_is_no_name(value):
    with pytest.raises(ValueError, match="expected a name"):
        parse_named_options(value)


@pytest.mark.usefixtures("gadgets")
def test_make_fills_in_fields():
    assert make_plugin("tools", "Made", "gadget", {}) == Gadget()
    assert make_plugin("tools", "Made", "gadget", {"eps": "8/255", "steps": 3}) == Gadget(
        8 / 255, 3
    )


@pytest.mark.usefixtures("gadgets")
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"step": 1}, "gadget.step: unknown; did you mean 'steps'?"),
        ({"eps": -1}, "gadget.eps: -1 is negative"),
        ({"steps": "many"}, "gadget.steps: a whole number is expected, such as 3 (got 'many')"),
        ({"steps": 2.5}, "gadget.steps: a whole number is expected, such as 3 (got 2.5)"),
        ({"steps": True}, "gadget.steps: a whole number is expected, such as 3 (got true)"),
    ],
)
def test_make_names_the_option(options, line):
    with pytest.raises(RetortError) as caught:
        make_plugin("tools", "Made", "gadget", options)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_make_knows_its_plug_ins():
    with pytest.raises(RetortError, match="objectives: 'rsald' is unknown; did you mean 'rslad'"):
        make_plugin("objectives", "Objective", "rsald", {})


@dataclass(frozen=True)
class Walk:
    """Settings of a group."""

    eps: float = 0.1
    steps: int = 3
    mode: Literal["slow", "fast"] = "slow"

    def __post_init__(self):
        if self.eps < 0:
            raise ValueError(f"eps: {self.eps:g} is negative")


@dataclass(frozen=True)
class Walker:
    """A plug-in with a group."""

    alpha: float = 1.0
    walk: Walk = field(
        default=Walk(steps=5), metadata={"fixed": ("mode",), "neutral_options": ("steps",)}
    )


def test_a_groups_settings_are_flat_options():
    assert get_defaults(Walker) == {"alpha": 1.0, "eps": 0.1, "steps": 5}
    assert flatten_options(Walker(2.0, Walk(0.2, 1, "fast"))) == {
        "alpha": 2.0,
        "eps": 0.2,
        "steps": 1,
    }
    assert build_instance(Walker, {}) == Walker()
    assert build_instance(Walker, {"eps": "1/4", "alpha": 2}) == Walker(2.0, Walk(0.25, 5))
    assert build_instance(Walker, flatten_options(Walker(3.0))) == Walker(3.0)
    neutral = {name: option.neutral for name, option in list_options(Walker).items()}
    assert neutral == {"alpha": NO_NEUTRAL, "eps": NO_NEUTRAL, "steps": 5}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"stpes": 1}, "stpes: unknown; did you mean 'steps'?"),
        ({"walk": {"eps": 1}}, "walk: unknown"),
        ({"mode": "fast"}, "mode: unknown"),
        ({"steps": 2.5}, "steps: a whole number is expected, such as 3 (got 2.5)"),
        ({"eps": "-1/4"}, "eps: -0.25 is negative"),
    ],
)
def test_a_fault_in_a_group_is_named_by_its_option(options, line):
    with pytest.raises(ValueError, match=f"^{re.escape(line)}"):
        build_instance(Walker, options)


def test_a_neutral_default_is_in_no_key_whatever_its_type():
    """In JSON a tuple is a list."""

    class Parts(Section):
        none: str | None = make_neutral_field(None)
        names: tuple[str, ...] = make_neutral_field(())
        pair: tuple[int, int] = make_neutral_field((1, 2))
        options: dict[str, int] = make_neutral_field({})

    assert dump_section(Parts()) == {}
    assert dump_section(Parts(names=("a",), pair=(2, 1))) == {"names": ["a"], "pair": [2, 1]}
