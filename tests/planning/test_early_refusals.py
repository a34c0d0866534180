"""What a job would refuse after hours is refused by the plan."""

import pytest

from pipeline.errors import RetortError
from pipeline.planning import graph
from pipeline.planning.graph import check_packages, make_plan_from_dict
from tests.helpers.graph import tiny


def line_of(changes: dict[str, object]) -> str:
    """What is said of the tiny experiment with some dotted keys set."""
    raw = tiny()
    for path, value in changes.items():
        *above, last = path.split(".")
        place = raw
        for key in above:
            place = place.setdefault(key, {})
        place[last] = value
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(raw)
    return str(caught.value)


@pytest.mark.parametrize("count", [2, 3])
def test_a_plan_says_which_attacks_of_autoattack_few_classes_get(count, caplog):
    raw = tiny()
    raw["datasets"]["pets"] = {
        "source": {"imagefolder": {"path": "pets", "version": "1", "folders": list("abc"[:count])}},
        "train": 64,
        "test": 8,
    }
    raw["teachers"]["pets"] = {"dataset": "pets", "model": "resnet8-s2-w8", "recipe": "tiny"}
    raw["suites"]["two"] = {"attacks": ["clean", "autoattack"], "models": "teachers"}
    with caplog.at_level("INFO", "retort.plan"):
        make_plan_from_dict(raw)
    (line,) = [text for text in caplog.messages if text.startswith("suites.two")]
    assert line == (
        f"suites.two.attacks.1.autoattack: the standard AutoAttack needs 4 classes, the model has "
        f"{count}; APGD-CE, FAB, Square run, and the table says so (pets)"
    )


EXTRA = {"dataset": "other", "share": 0.5}
PAIR = {"source": {"imagefolder": {"path": "pets", "version": "1", "folders": ["a", "b", "c"]}}}
PETS = {
    "datasets.pets": PAIR | {"train": 64, "test": 8},
    "teachers.pets": {"dataset": "pets", "model": "resnet8-s2-w8", "recipe": "tiny"},
}
SMALL = {
    "datasets.small": {"source": {"fashion_mnist": {"side": 16}}, "train": 64, "test": 8},
    "teachers.small": {"dataset": "small", "model": "resnet8-s2-w8", "recipe": "tiny"},
}
LINF_BANK = {"norm": "linf", "eps": 8, "step": 0.1}
FAULTS = {
    "radius of an objective": (
        {"students.rslad.objective": {"rslad": {"eps": 8, "step": 2}}},
        "students.rslad.objective.rslad.eps: 8 is more than 1, the whole range of a pixel; did you "
        "mean 8/255?",
    ),
    "step of an objective": (
        {"students.rslad.objective": {"rslad": {"step": 2, "steps": 1}}},
        "students.rslad.objective.rslad.step: 2 is more than 1, the whole range of a pixel",
    ),
    "radius of a teacher": (
        {"teachers.robust.objective": {"pgd_at": {"eps": 8}}},
        "teachers.robust.objective.pgd_at.eps: 8 is more than 1",
    ),
    "step without a ball": (
        {"students.derd.objective": {"derd": {"step": 2}}},
        "students.derd.objective.derd.step: 2 is more than 1",
    ),
    "radius of a bank": (
        {"banks.dad.attack": LINF_BANK},
        "banks.dad.attack.eps: 8 is more than 1, the whole range of a pixel; did you mean 8/255?",
    ),
    "L2 radius of a bank": (
        {"banks.dad.attack": {"eps": 128}},
        "banks.dad.attack.eps: 128 is more than 55.4, the L2 distance of the black image of 3x32",
    ),
    "L2 radius of an objective": (
        {
            "students.natural.objective": {"dat": {"eps": 56}},
            "students.natural.discretizer": "vq",
        },
        "students.natural.objective.dat.eps: 56 is more than 55.4, the L2 distance",
    ),
    "past images of a generator that keeps none": (
        {
            "generators.derd.pool": 0,
            "generators.derd.replayed": 0,
            "students.derd.sampling": {"steps_per_epoch": 2, "replayed": 16},
        },
        "students.derd.sampling.replayed: 16 past images are asked for, generator 'derd' keeps "
        "none; set generators.derd.pool above 0",
    ),
    "attention of networks without a common resolution": (
        {
            "generators.derd.model": "vit-tiny-p16",
            "students.derd.model": "vit-tiny-p16",
            "students.derd.teachers": {"natural": "natural"},
            "students.derd.objective": {"zskt": {"attention": 250}},
        },
        "students.derd.objective.zskt.attention: 'vit-tiny-p16' and 'resnet8-s2-w8' have no attent",
    ),
    "a suite without attacks": (
        {"suites.main.attacks": []},
        "suites.main.attacks: a list of one or more values is expected (got an empty list)",
    ),
    "radius of an attack": (
        {"suites.main.attacks": [{"pgd": {"eps": [0, 8]}}]},
        "suites.main.attacks.0.pgd.eps: 8 is more than 1, the whole range of a pixel; did you mean",
    ),
    "step of an attack": (
        {"suites.main.attacks": ["clean", {"boundary_risk": {"step": 2}}]},
        "suites.main.attacks.1.boundary_risk.step: 2 is more than 1",
    ),
    "batch of a teacher": (
        {"teachers.natural.recipe": {"batch": 513}},
        "teachers.natural.recipe.batch: 513 is more than the 512 training images of data set "
        "'tiny'; make it smaller, or raise datasets.tiny.train",
    ),
    "batch of a student of a bank": (
        {"students.kd.recipe": {"batch": 1024, "augment": "none"}},
        "students.kd.recipe.batch: 1024 is more than the 512 training images of data set 'tiny'",
    ),
    "batch of a discretizer": (
        {"discretizers.vq.recipe.batch": 1024},
        "discretizers.vq.recipe.batch: 1024 is more than the 512 training images of data set",
    ),
    "a second data set without training images": (
        {
            "datasets.other": {"source": "cifar10", "train": 0, "test": 8},
            "students.natural.extra": EXTRA,
        },
        "students.natural.extra.dataset: 'other' has no training images; name one that has",
    ),
    "a bank of no training images": (
        {
            "datasets.other": {"source": "cifar10", "train": 0, "test": 8},
            "banks.dad.dataset": "other",
        },
        "banks.dad.dataset: 'other' has no training images; name one that has",
    ),
    "corruptions of small images": (
        {**SMALL, "suites.two": {"attacks": ["corruptions"], "models": "teachers"}},
        "suites.two.attacks.0.corruptions: on 'small': images are 1x16x16, but need 1 or 3 chan",
    ),
    "a student and a teacher of one name": (
        {
            "teachers.rslad-0": {"dataset": "tiny", "model": "resnet8-s2-w8", "recipe": "tiny"},
            "suites.main.models": "all",
        },
        "teachers.rslad-0: a student of one seed is called 'rslad-0' too, so suite 'main' cannot",
    ),
    "a study of BatchNorm without any": (
        {
            "teachers.vit": {"dataset": "tiny", "model": "vit-tiny-p4", "recipe": "tiny"},
            "report": {"wasserstein": {"network": "vit"}},
        },
        "report.wasserstein.network: 'vit' is a 'vit-tiny-p4', which has no BatchNorm whose",
    ),
}


@pytest.mark.parametrize(("changes", "start"), FAULTS.values(), ids=FAULTS)
def test_the_plan_refuses(changes, start):
    assert line_of(changes).startswith(start)


def test_four_classes_are_enough_for_autoattack_and_one_long_l2_step_is_meant():
    raw = tiny()
    folders = {"path": "pets", "version": "1", "folders": ["a", "b", "c", "d"]}
    raw["datasets"]["pets"] = {"source": {"imagefolder": folders}, "train": 64, "test": 8}
    raw["teachers"]["pets"] = PETS["teachers.pets"]
    raw["suites"]["two"] = {"attacks": ["autoattack"], "models": "teachers"}
    raw["banks"]["dad"]["attack"] = {"eps": 3, "step": 3}
    make_plan_from_dict(raw)


def test_networks_of_a_common_resolution_may_compare_their_attention():
    raw = tiny()
    raw["students"]["derd"]["teachers"] = {"natural": "natural"}
    raw["students"]["derd"]["objective"] = {"zskt": {"attention": 250}}
    make_plan_from_dict(raw)


def test_one_number_is_a_list_of_one_seed():
    raw = tiny()
    raw["students"]["rslad"]["seeds"] = 3
    raw["students"]["derd"]["seeds"] = raw["generators"]["derd"]["seeds"] = 4
    plan = make_plan_from_dict(raw).refs_by_name
    raw["students"]["rslad"]["seeds"] = [3]
    raw["students"]["derd"]["seeds"] = raw["generators"]["derd"]["seeds"] = [4]
    assert plan == make_plan_from_dict(raw).refs_by_name
    assert ("student", "rslad-3") in plan
    assert ("student", "derd-4") in plan


def test_a_run_needs_the_packages_of_its_attacks(monkeypatch):
    raw = tiny()
    raw["suites"]["main"]["attacks"] = ["clean", "jsma"]
    plan = make_plan_from_dict(raw)
    check_packages(plan)
    monkeypatch.setattr(graph, "is_installed", lambda package: package != "art")
    with pytest.raises(RetortError, match=r"suites\.main: attack 'jsma' needs .*retort\[jsma\]'"):
        check_packages(plan)
