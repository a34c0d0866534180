"""Configurations: recipes are merged in, and every fault is one line that names its key."""

import copy
from pathlib import Path

import pytest
import yaml

from pipeline.config.reader import parse_config, read_config
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict

SMALL = Path(__file__).parents[1] / "helpers" / "small.yaml"


def small() -> dict:
    """small.yaml as plain dicts."""
    return yaml.safe_load(SMALL.read_text())


def changed(path: str, value: object) -> dict:
    """The small configuration with one dotted key set."""
    raw = copy.deepcopy(small())
    place = raw
    *above, last = path.split(".")
    for key in above:
        place = place[key]
    place[last] = value
    return raw


def line_of(raw: dict) -> str:
    """The error message of a faulty configuration, checked to be one line."""
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(raw)
    line = str(caught.value)
    assert "\n" not in line
    return line


RSLAD = "students.rslad.objective"
FAULTS = [
    ("sudents", {}, "sudents: unknown; did you mean 'students'?"),
    ("students.rslad.modle", "x", "students.rslad.modle: unknown; did you mean 'model'?"),
    ("recipes.tiny.larning", 1, "recipes.tiny.larning: unknown"),
    ("recipes.tiny.lr", "1.2.3/4", "recipes.tiny.lr: "),
    ("recipes.tiny.lr", 0, "recipes.tiny.lr: "),
    ("recipes.tiny.lr", float("nan"), "recipes.tiny.lr: "),
    ("recipes.tiny", 5, "recipes.tiny: "),
    ("recipes.tiny", None, "recipes.tiny: "),
    ("recipes.tiny.milestones", [0.7, 0.5], "recipes.tiny: milestones"),
    ("recipes.tiny.cosine_from", 0.5, "recipes.tiny: cosine_from: schedule onecycle has no cosine"),
    ("recipes", [1], "recipes: "),
    ("students", [1], "students: "),
    ("students.kd", "natural", "students.kd: "),
    (f"{RSLAD}", {"rslad": {"stpe": 1}}, f"{RSLAD}.rslad.stpe: unknown; did you mean 'step'?"),
    (f"{RSLAD}", {"rslda": {}}, f"{RSLAD}.rslda: unknown; did you mean 'rslad'?"),
    (f"{RSLAD}", {"rslad": {}, "kd": {}}, f"{RSLAD}: expected a name"),
    (f"{RSLAD}", {"rslad": {"eps": -0.1}}, f"{RSLAD}.rslad.eps: -0.1 is negative"),
    (f"{RSLAD}", {"rslad": {"eps": "2/255", "step": "8/255"}}, f"{RSLAD}.rslad.step: "),
    (f"{RSLAD}", {"rslad": {"eps": "8 / 25 5"}}, f"{RSLAD}.rslad.eps: "),
    ("banks.dad.attack", {"eps": -1}, "banks.dad.attack.eps: "),
    (
        "banks.dad.attack",
        {"eps": 0.1, "step": 0.2, "steps": 2},
        "banks.dad.attack.step: 0.2 is more than eps 0.1",
    ),
    ("students.rslad.recipe", "tyny", "students.rslad.recipe: no recipe 'tyny'; did you mean"),
    ("students.rslad.recipe", [1], "students.rslad.recipe: "),
    ("students.rslad.recipe", {"lr": -1}, "students.rslad.recipe.lr: "),
    ("students.rslad.dataset", "tinny", "students.rslad.dataset: datasets has no 'tinny'; did you"),
    ("students.rslad.teacher", "robst", "students.rslad.teachers.teacher: no teacher 'robst'; did"),
    ("students.rslad.teachers", {"a": "robust"}, "students.rslad: give 'teacher' or 'teachers'"),
    ("students.dad.bank", "dda", "students.dad.bank: banks has no 'dda'; did you mean 'dad'?"),
    ("students.kd.model", "vgg11", "students.kd.model: model 'vgg11' is unknown"),
    ("students.kd.model", "resnet9-s2-w8", "students.kd.model: model 'resnet9-s2-w8': the depth"),
    ("students.kd.dataset", None, "students.kd: give exactly one of 'dataset' and 'generator'"),
    ("students.kd.seeds", [-1], "students.kd.seeds.0: "),
    ("students.kd.teacher", "kd", "students.kd: is made from itself (students.kd -> students.kd)"),
    ("banks.dad.teacher", "nobody", "banks.dad.teacher: no teacher 'nobody'"),
    ("teachers.robust.model", None, "teachers.robust: give exactly one of 'model', 'clip' and"),
    ("datasets.tiny.train", 50_000, "datasets.tiny.train: 50064 images asked for with val"),
    ("datasets.tiny.test", 10_001, "datasets.tiny.test: 10001 images asked for, "),
    ("datasets.tiny.train", 0, "datasets.tiny.train: "),
    ("datasets.tiny.source", "cifar11", "datasets.tiny.source: datasets: 'cifar11' is unknown"),
    ("suites.linf.attacks", ["fgms"], "suites.linf.attacks.0.fgms: unknown; did you mean 'fgsm'?"),
    ("suites.linf.attacks", [{"pgd": {"esp": 1}}], "suites.linf.attacks.0.pgd.esp: unknown"),
    ("seed", -1, "seed: "),
    ("store", "", "store: the path of a folder is expected (got '')"),
    ("run", {"data": ""}, "run.data: the path of a folder is expected (got '')"),
    ("device", "tpu", "device: "),
]


@pytest.mark.parametrize(("path", "value", "start"), FAULTS)
def test_a_fault_is_one_line_that_names_its_key(path, value, start):
    assert line_of(changed(path, value)).startswith(start)


def test_students_that_teach_each_other_are_a_cycle():
    raw = changed("students.kd.teacher", "rslad")
    raw["students"]["rslad"]["teacher"] = "kd"
    line = line_of(raw)
    assert line.startswith("students.kd: is made from itself")
    assert "students.kd -> students.rslad -> students.kd" in line


def test_an_objective_says_what_it_lacks():
    raw = changed("students.kd.teacher", "natural")
    del raw["students"]["kd"]["teacher"]
    assert "objective 'kd' needs a teacher, or a bank" in line_of(raw)
    raw = changed("students.adaad", {**small()["students"]["dad"], "objective": {"adaad": {}}})
    assert "objective 'adaad' needs exactly one teacher" in line_of(raw)


def test_stored_outputs_do_not_serve_augmented_images():
    raw = changed("students.dad.recipe", "tiny")
    assert "objective 'dad' needs a teacher" in line_of(raw)
    raw["students"]["dad"]["teacher"] = "natural"
    make_plan_from_dict(raw)


def test_a_bank_belongs_to_its_data_set():
    raw = changed("datasets.other", {"source": "cifar10", "train": 64, "test": 64})
    raw["students"]["dad"]["dataset"] = "other"
    assert line_of(raw).startswith("students.dad.bank: 'dad' was made from data set 'tiny'")


def test_recipes_are_merged_and_epochs_override():
    raw = changed("students.kd.epochs", 7)
    config = parse_config(raw)
    assert config.students["kd"].recipe.epochs == 7
    assert config.students["rslad"].recipe.epochs == 1
    assert config.students["kd"].recipe.lr == config.students["rslad"].recipe.lr == 0.1
    assert raw == changed("students.kd.epochs", 7)


def test_fractions_are_numbers():
    objective = parse_config(changed(RSLAD, {"rslad": {"eps": "4/255", "step": "1/255"}}))
    assert objective.students["rslad"].objective["rslad"]["eps"] == 4 / 255
    assert parse_config(changed("recipes.tiny.lr", "1/8")).students["kd"].recipe.lr == 0.125


def test_short_forms():
    config = parse_config(small())
    assert config.students["natural"].objective == {"natural": {}}
    assert config.students["kd"].teachers == {"teacher": "natural"}
    assert config.teachers["natural"].objective == {"natural": {}}


def test_files(tmp_path):
    assert read_config(SMALL) == parse_config(small())
    path = tmp_path / "config.yaml"
    for text, words in (("a: [", "not valid YAML"), ("- a", "a mapping of sections")):
        path.write_text(text)
        with pytest.raises(RetortError, match=words) as caught:
            read_config(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)
    with pytest.raises(RetortError, match="cannot be read"):
        read_config(tmp_path / "nowhere.yaml")
