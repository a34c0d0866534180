"""docs/methods/ against the code, and the code's defaults against the papers'."""

import dataclasses
import re
from pathlib import Path

import pytest
import yaml
from pydantic import TypeAdapter, ValidationError

from pipeline.config.plugin_fields import ObjectiveSpec
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.schema import get_defaults, parse_fractions

PAGES = sorted((Path(__file__).parents[2] / "docs" / "methods").glob("*.md"))
SECTIONS = {
    name: text
    for page in PAGES
    for name, text in re.findall(
        r"^## (\w+)\n\n(.*?)(?=^## |\Z)", page.read_text(), re.MULTILINE | re.DOTALL
    )
}
NAMES = list_plugin_names("objectives")


def value(cell: str) -> object:
    """`8/255`, `gauss`, `true` or `1/3, 2/3` as what it stands for."""
    if ", " in cell:
        return tuple(value(part) for part in cell.split(", "))
    return parse_fractions(yaml.safe_load(cell))


def printed(name: str) -> dict[str, object]:
    """The first table of a section: fields above, defaults below."""
    lines = [line for line in SECTIONS[name].splitlines() if line.startswith("|")]
    if not lines:
        return {}
    fields, defaults = ([cell.strip() for cell in lines[i].split("|")[1:-1]] for i in (0, 2))
    return {field: value(cell) for field, cell in zip(fields, defaults, strict=True)}


@pytest.mark.parametrize("name", NAMES)
def test_every_method_is_documented_with_its_defaults(name):
    assert name in SECTIONS, f"docs/methods: add a section '## {name}'"
    objective = load_plugin("objectives", name).Objective
    assert printed(name) == get_defaults(objective)
    assert "F_S" in SECTIONS[name] or "Cost as" in SECTIONS[name], "say what a step costs"


@pytest.mark.parametrize("name", list_plugin_names("generator_losses"))
def test_every_loss_of_a_generator_is_documented_with_its_defaults(name):
    (row,) = re.findall(rf"^\| {name} \|.*\| (.*?) \|$", SECTIONS["data_free_kd"], re.MULTILINE)
    pairs = [pair.split(" ") for pair in row.split(", ")]
    fields = dataclasses.fields(load_plugin("generator_losses", name).Loss)
    assert {key: value(cell) for key, cell in pairs} == {f.name: f.default for f in fields}


def test_nothing_else_is_documented():
    assert SECTIONS.keys() - {"Conventions"} == set(NAMES)


@pytest.mark.parametrize("name", [name for name in NAMES if name.endswith("_like")])
def test_approximations_say_so(name):
    assert "approximation" in load_plugin("objectives", name).Objective.__doc__
    assert "not the published" in SECTIONS[name]


LINF = {"eps": 8 / 255, "step": 2 / 255, "steps": 10, "attack_bn": "eval"}
DEFAULTS = {
    "trades": LINF | {"start": "gauss", "beta": 6.0},
    "dist": {"beta": 1.0, "gamma": 1.0, "temperature": 1.0},
    "ard": LINF
    | {"start": "uniform", "alpha": 1.0, "temperature": 30.0, "kd_scale": 1.0}
    | {"clean_forward": True},
    "iad": LINF
    | {"start": "uniform", "alpha": 1.0, "beta": 0.1, "begin": 0.3, "temperature": 1.0}
    | {"kd_scale": 1.0, "weight_teacher": False},
    "akd": LINF | {"start": "gauss", "beta": 0.5},
    "akd2": LINF | {"start": "uniform", "alpha": 0.5, "beta": 0.25, "temperature": 1.0},
    "iad2": LINF
    | {"start": "uniform", "alpha": 0.5, "natural_weight": 0.25, "beta": 0.1, "begin": 0.2}
    | {"temperature": 1.0, "clean_forward": False},
    "mtard": LINF | {"start": "gauss", "rate": 0.025, "kd_scale": 1.0},
    "adaiad": LINF
    | {"start": "gauss", "alpha": 1.0, "beta": 0.1, "begin": 0.3, "temperature": 30.0}
    | {"kd_scale": 1.0},
    "rslad": LINF | {"start": "gauss", "alpha": 5 / 6, "temperature": 1.0, "kd_scale": 1.0},
    "adaad": LINF | {"start": "gauss", "alpha": 1.0, "temperature": 1.0, "kd_scale": 1.0},
    "pgd_at": LINF | {"start": "gauss", "clean_forward": True},
    "kd": {"alpha": 0.5, "temperature": 4.0},
    "saad": LINF | {"start": "gauss", "alpha": 1.0, "beta": 0.0, "correction": 1.0},
    "absld": LINF | {"start": "gauss", "alpha": 5 / 6, "kd_scale": 1.0, "rate": 0.1},
    "b_mtard": LINF | {"start": "gauss", "rate": 0.025, "temperature_rate": 0.001, "kd_scale": 1.0},
    "ciard": LINF
    | {"start": "gauss", "kd_scale": 1.0, "push": 1.0, "push_temperature": 5.0}
    | {"temperature_rate": 0.001, "teacher_lr": 1e-4, "teacher_momentum": 0.1}
    | {"teacher_decay": 2e-4, "teacher_start": 50 / 300},
}
RELEASED = {
    "ard",
    "rslad",
    "mtard",
    "adaad",
    "absld",
    "b_mtard",
    "ciard",
}  # CIFAR-10's mean over classes


@pytest.mark.parametrize("name", DEFAULTS)
def test_the_defaults_are_the_papers(name):
    defaults = get_defaults(load_plugin("objectives", name).Objective)
    assert {option: defaults[option] for option in DEFAULTS[name]} == DEFAULTS[name]


def test_the_released_scales_are_the_papers():
    found = {name: getattr(load_plugin("objectives", name), "RELEASED", None) for name in NAMES}
    assert {name: values for name, values in found.items() if values} == dict.fromkeys(
        RELEASED, {"kd_scale": 0.1}
    )


def test_losses_are_of_one_scale_unless_a_preset_says_otherwise():
    read = TypeAdapter(ObjectiveSpec).validate_python
    assert read("rslad")["rslad"]["kd_scale"] == 1.0
    assert read({"rslad": {"preset": "released"}}) == read({"rslad": {"kd_scale": 0.1}})
    assert read({"ard": {"preset": "released", "kd_scale": 0.01}})["ard"]["kd_scale"] == 0.01
    with pytest.raises(ValidationError, match="rslad.preset: 'paper' is unknown; 'released'"):
        read({"rslad": {"preset": "paper"}})
    with pytest.raises(ValidationError, match="preset: unknown"):
        read({"kd": {"preset": "released"}})
