"""Which models a suite evaluates: kinds, names, patterns, roles, and what is left out."""

import pytest

from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.suite_models import Candidate, matches
from tests.helpers.graph import tiny

STUDENTS = ("natural", "kd", "dad", "rslad", "adaad", "derd")
TEACHERS = ("natural", "robust", "clip")


def evaluated(models: object, **suite: object) -> set[str]:
    """Names of the evaluations of a suite with these models."""
    raw = tiny()
    given = {} if models is None else {"models": models}
    raw["suites"] = {"x": {"attacks": ["clean"], **given, **suite}}
    plan = make_plan_from_dict(raw)
    return {name for kind, name in plan.refs_by_name if kind == "evaluation"}


def labels(*names: str, seed: str = "-0") -> set[str]:
    return {f"{name}{seed}.x" for name in names}


EVERY = labels(*STUDENTS) | labels(*TEACHERS, seed="") | {"derd-warm.x"}
CHOICES = [
    (None, EVERY),
    ("all", EVERY),
    ("students", labels(*STUDENTS)),
    (["teachers", "generators"], labels(*TEACHERS, seed="") | {"derd-warm.x"}),
    ("dad", labels("dad")),
    (["*ad", "kd-0"], labels("dad", "rslad", "adaad", "kd")),
    (["adaad-*", "robust"], labels("adaad") | labels("robust", seed="")),
    (["students", "!*ad"], labels("natural", "kd", "derd")),
    (["!students"], EVERY - labels(*STUDENTS)),
    ([], set()),
]


@pytest.mark.parametrize(("models", "expected"), CHOICES)
def test_models_are_chosen_by_kind_name_and_pattern(models, expected):
    assert evaluated(models) == expected


def test_a_role_means_the_teachers_that_have_it_and_a_name_comes_first():
    strong = Candidate("strong", "teachers", ("strong",), frozenset({"robust"}), "strong", None)
    assert matches(strong, "robust") and matches(strong, "str*") and matches(strong, "teachers")
    assert not matches(strong, "natural") and not matches(strong, "rob*")
    raw = tiny()
    raw["students"]["derd"] |= {"teachers": {"robust": "natural", "natural": "natural"}}
    raw["suites"] = {"x": {"attacks": ["clean"], "models": "robust"}}
    plan = make_plan_from_dict(raw)
    found = {name for kind, name in plan.refs_by_name if kind == "evaluation"}
    assert found == labels("natural", "robust", seed="")


def test_a_section_that_equals_another_is_chosen_by_its_own_name():
    raw = tiny()
    raw["students"]["twin"] = raw["students"]["kd"]
    for models in ("twin", "twin-0", ["kd", "twin"]):
        raw["suites"] = {"x": {"attacks": ["clean"], "models": models}}
        plan = make_plan_from_dict(raw)
        assert {name for kind, name in plan.refs_by_name if kind == "evaluation"} == {"kd-0.x"}


def test_a_namesake_of_a_teacher_is_tested_on_its_own_images():
    raw = tiny()
    raw["datasets"]["more"] = {"source": "cifar100", "train": 512, "val": 64, "test": 64}
    raw["students"]["natural"] = {**raw["students"]["natural"], "dataset": "more"}
    raw["suites"] = {"x": {"attacks": ["clean"], "models": "natural"}}
    plan = make_plan_from_dict(raw)
    found = {
        name: plan.artefacts[ref].inputs["dataset"].name
        for (kind, name), ref in plan.refs_by_name.items()
        if kind == "evaluation"
    }
    assert found == {"natural-0.x": "more", "natural.x": "tiny"}


WRONG = [
    (["adad"], "suites.x.models.0: no model is called 'adad'; did you mean 'adaad'?"),
    (["students", "!zz*"], "suites.x.models.1: no model is called 'zz*'; known: adaad"),
    (["!all"], "suites.x.models: leaves out every model"),
]


@pytest.mark.parametrize(("models", "message"), WRONG)
def test_a_word_that_means_no_model_is_refused(models, message):
    with pytest.raises(RetortError) as caught:
        evaluated(models)
    assert str(caught.value).startswith(message)


def test_the_preset_runs_every_attack_and_transfers_from_all_others():
    raw = tiny()
    raw["suites"] = {"x": {"preset": "thorough", "models": "adaad", "eps": "4/255", "n_eval": 8}}
    plan = make_plan_from_dict(raw)
    found = {
        name: plan.artefacts[ref]
        for (k, name), ref in plan.refs_by_name.items()
        if k == "evaluation"
    }
    attacks = [(n, o) for a in found["adaad-0.x"].spec["attacks"] for n, o in a.items()]
    names = [name for name, _ in attacks]
    assert names == ["clean", "pgd", "apgd", "apgd", "multitargeted", "square", "autoattack"]
    assert all(o["n_eval"] == 8 and o.get("eps", 4 / 255) == 4 / 255 for _, o in attacks)
    pgd, ce, mse, square = attacks[1][1], attacks[2][1], attacks[3][1], attacks[5][1]
    assert (pgd["steps"], pgd["restarts"], pgd["step"]) == (100, 10, 1 / 255)
    assert (ce["loss"], mse["loss"], square["queries"]) == ("ce", "mse", 5000)
    sources = {name.partition("-from-")[2] for name in found} - {""}
    assert sources == {*STUDENTS, *TEACHERS, "natural-0"} - {"adaad"}
    namesakes = [found[f"adaad-0.x-from-{n}"].inputs["surrogate"] for n in ("natural", "natural-0")]
    assert [(e.kind, e.name) for e in namesakes] == [
        ("teacher", "natural"),
        ("student", "natural-0"),
    ]
    (transfer,) = found["adaad-0.x-from-robust"].spec["attacks"]
    assert transfer["pgd"]["eps"] == 4 / 255 and transfer["pgd"]["steps"] == 20


@pytest.mark.parametrize("section", ["teachers", "students"])
def test_no_surrogate_is_lost_where_names_with_seeds_are_taken(section):
    raw = tiny()
    raw[section]["natural-0"] = dict(raw[section]["natural"], model="resnet8-s2-w4")
    raw["suites"] = {"x": {"preset": "thorough", "models": "adaad"}}
    plan = make_plan_from_dict(raw)
    found = {
        name.partition("-from-")[2]: plan.artefacts[ref].inputs["surrogate"].ref
        for (kind, name), ref in plan.refs_by_name.items()
        if kind == "evaluation" and "-from-" in name
    }
    names = {
        "natural": ("teacher", "natural"),
        "natural-0 (student)": ("student", "natural-0"),
        "natural-0": {"teachers": ("teacher", "natural-0"), "students": ("student", "natural-0-0")}[
            section
        ],
    }
    for label, name in names.items():
        assert found[label] == plan.refs_by_name[name]
    assert len(set(found.values())) == len(found) == len(STUDENTS) + len(TEACHERS)


@pytest.mark.parametrize("eps", [0.02, "0.02", "5.1/255"])
def test_the_preset_s_radius_may_be_written_as_any_number(eps):
    raw = tiny()
    raw["suites"] = {"x": {"preset": "thorough", "models": "adaad", "eps": eps}}
    plan = make_plan_from_dict(raw)
    for name in ("adaad-0.x", "adaad-0.x-from-robust"):
        entry = plan.artefacts[plan.refs_by_name["evaluation", name]]
        (found,) = (attack["pgd"] for attack in entry.spec["attacks"] if "pgd" in attack)
        assert (found["eps"], found["step"]) == pytest.approx((0.02, 0.005))


BAD_PRESETS = [
    ({"preset": "thorough", "attacks": ["clean"]}, "preset: goes with no attacks"),
    ({"preset": "thorough", "epochs": [1]}, "preset: goes with no attacks, surrogate, dataset or"),
    ({"preset": "thorough", "eps": 0}, "eps: 0 is no radius above 0"),
    ({"preset": "thorough", "eps": "far"}, "eps: 'far' is no radius above 0"),
    ({"attacks": ["clean"], "n_eval": 8}, "eps: and 'n_eval' go with 'preset'"),
    ({"preset": "quick"}, "preset: 'quick' is unknown"),
]


@pytest.mark.parametrize(("suite", "message"), BAD_PRESETS)
def test_what_does_not_go_with_the_preset_is_refused(suite, message):
    raw = tiny()
    raw["suites"] = {"x": suite}
    with pytest.raises(RetortError, match=message):
        make_plan_from_dict(raw)
