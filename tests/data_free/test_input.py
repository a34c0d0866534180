"""Errors in a data-free method's configuration are reported before any job starts."""

import copy
from collections.abc import Callable

import pytest

from pipeline.discovery import list_plugin_names
from pipeline.errors import RetortError
from pipeline.planning.compatibility.fits import list_objective_needs
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.graph import tiny

BASE = tiny()
SMALL = {name: BASE[name] for name in ("store", "seed", "run", "recipes", "datasets", "teachers")}
SMALL |= {"generators": BASE["generators"], "students": {"derd": BASE["students"]["derd"]}}


def planned(change: Callable[[dict], None]):
    """The plan of a small data-free experiment whose configuration text is changed."""
    raw = copy.deepcopy(SMALL)
    change(raw)
    return make_plan_from_dict(raw)


def refused(change: Callable[[dict], None]) -> str:
    with pytest.raises(RetortError) as caught:
        planned(change)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def generator(**fields) -> Callable[[dict], None]:
    return lambda raw: raw["generators"]["derd"].update(fields)


def student(**fields) -> Callable[[dict], None]:
    return lambda raw: raw["students"]["derd"].update(fields)


def both(*changes: Callable[[dict], None]) -> Callable[[dict], None]:
    return lambda raw: [change(raw) for change in changes]


def on_data(objective: str) -> Callable[[dict], None]:
    def change(raw: dict) -> None:
        own = raw["students"]["derd"]
        for name in ("generator", "sampling"):
            del own[name]
        own |= {"dataset": "tiny", "objective": objective}

    return change


def other_classes(raw: dict) -> None:
    raw["datasets"]["other"] = {"source": "cifar100", "train": 64, "val": 0, "test": 8}
    robust = raw["teachers"]["robust"]
    raw["teachers"]["robust"] = {**robust, "dataset": "other"}


def large(raw: dict) -> None:
    """Add a teacher of larger images, with a data set and classes of its own."""
    source = {"tinyimagenet": {"size": 64, "path": "/nowhere", "version": "1"}}
    raw["datasets"]["large"] = {"source": source, "train": 64, "val": 0, "test": 8}
    raw["teachers"]["large"] = {"dataset": "large", "model": "resnet8-s2-w8", "recipe": "tiny"}


def shrunk(raw: dict) -> None:
    """Add a teacher of the same classes that is trained on smaller images."""
    source = {"npz": {"path": "small.npz", "version": "1", "classes_of": "cifar10", "size": 16}}
    raw["datasets"]["small"] = {"source": source, "train": 64, "val": 0, "test": 0}
    raw["teachers"]["small"] = {"dataset": "small", "model": "resnet8-s2-w8", "recipe": "tiny"}


ROUNDS = {"replayed": 0, "rounds": {"iterations": 1}}
FAULTS = {
    "other classes": (other_classes, "students.derd.teachers.robust: 'robust' knows 100 classes"),
    "another size": (
        both(large, generator(teacher="large")),
        "generators.derd.image: 32 px, but teacher 'large' knows images of 64x64; set it to 64",
    ),
    "a teacher of another size": (
        both(shrunk, student(teachers={"natural": "natural", "robust": "small"})),
        "students.derd.teachers.robust: 'small' knows images of another size than those of data "
        "set 'tiny', 3x16x16 and not 3x32x32; name a teacher of that size",
    ),
    "a stranger's generator": (
        generator(teacher="clip"),
        "students.derd.teachers.natural: generator 'derd' was made for teacher 'clip'; name that",
    ),
    "no natural teacher": (
        student(teachers={"robust": "robust"}),
        "students.derd: objective 'derd' needs a teacher in the role 'natural'",
    ),
    "data for a data-free objective": (
        on_data("derd"),
        "students.derd: objective 'derd' needs a generator; it is given natural, robust, label",
    ),
    "a generator for labels": (
        student(objective="natural"),
        "students.derd: objective 'natural' needs labels (a data set)",
    ),
    "two teachers for one": (student(objective="dfad"), "objective 'dfad' needs exactly one teach"),
    "an unknown loss": (generator(losses="dfda"), "generators.derd.losses.dfda: unknown; did you"),
    "an unknown option": (
        generator(weights={}, losses={"dafl": {"blance": 1}}),
        "generators.derd.losses.dafl.blance: unknown; did you mean 'balance'?",
    ),
    "weights twice": (generator(losses="dafl"), "generators.derd: weights: are the losses' own"),
    "rounds forgotten": (
        generator(weights={}, losses="cmi"),
        "generators.derd: losses: 'cmi' works on images made in rounds; give 'rounds'",
    ),
    "rounds without a pool": (generator(**ROUNDS, pool=0), "generators.derd: rounds: fill a pool"),
    "rounds that replay": (
        generator(rounds={"iterations": 1}),
        "generators.derd: replayed: does not go with rounds",
    ),
    "replay without a pool": (generator(pool=0), "generators.derd: replayed: needs past images"),
    "a side that is no multiple": (
        generator(doublings=6, channels=32),
        "generators.derd.image: 32 must be a multiple of 64",
    ),
    "too little noise": (
        generator(weights={}, losses={"derd": {"labels": "given"}}, latent=9),
        "generators.derd.latent: 9 numbers cannot say which of 10 labels is given; set it to 10",
    ),
    "a model of another size": (
        generator(model="timm/vit_tiny_patch16_224"),
        "generators.derd.model: 'timm/vit_tiny_patch16_224' takes images of 224x224 px",
    ),
    "a surrogate beside a teacher": (
        student(surrogate=1),
        "students.derd.surrogate: stands for the natural teacher; drop it, or teachers.natural",
    ),
    "a surrogate without a generator": (
        both(on_data("natural"), student(surrogate=1)),
        "students.derd: surrogate: is a generator's early student; give 'generator'",
    ),
    "a step beyond the radius": (
        student(
            teachers={"natural": "natural"},
            objective={"dfad": {"attack": "rslad", "eps": "2/255", "step": "8/255"}},
        ),
        "students.derd.objective.dfad.step: 0.0313725 is more than eps",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line(name):
    change, line = FAULTS[name]
    assert line in refused(change)


def needing(kind: str) -> list[str]:
    """Names of the objectives that need ``kind`` with their default options."""
    return [
        name for name in list_plugin_names("objectives") if kind in list_objective_needs({name: {}})
    ]


def test_there_are_objectives_of_either_kind():
    assert {"derd", "data_free_kd", "dfad", "zskt", "dfhl_rs"} <= set(needing("generated"))
    assert {"natural", "pgd_at", "trades", "darwin", "dad"} <= set(needing("label"))


@pytest.mark.parametrize("name", needing("generated"))
def test_no_data_free_objective_takes_a_data_set(name):
    line = refused(on_data(name))
    assert f"students.derd: objective '{name}' needs a generator" in line


@pytest.mark.parametrize("name", needing("label"))
def test_no_objective_that_reads_labels_takes_a_generator(name):
    line = refused(student(objective=name))
    assert f"students.derd: objective '{name}' needs" in line and "labels (a data set)" in line


@pytest.mark.parametrize("warm", [True, False])
def test_a_surrogate_must_have_been_kept(warm):
    alone = student(teachers={"robust": "robust"}, surrogate=3 if warm else 1)
    line = refused(both(generator(teacher="robust", warm=warm), alone))
    assert "generator 'derd' keeps no weights of epoch" in line
    assert "generators.derd.recipe.keep_epochs" in line


def test_a_surrogate_of_the_last_epoch_needs_nothing_kept():
    alone = student(teachers={"robust": "robust"}, surrogate=1)
    planned(both(generator(teacher="robust"), alone))


def test_a_generator_may_learn_from_either_teacher():
    plan = planned(generator(teacher="robust"))
    assert plan.artefacts[plan.refs_by_name["student", "derd-0"]].inputs.keys() == {
        "generator",
        "teachers.natural",
        "teachers.robust",
    }


def test_methods_without_labels_take_generated_images():
    planned(student(teachers={"natural": "natural"}, objective={"rslad": {"steps": 1}}))
    planned(student(teachers={"natural": "natural"}, objective={"adaad": {"steps": 1}}))


def test_teachers_and_student_may_be_of_different_kinds():
    def change(raw: dict) -> None:
        raw["teachers"]["natural"]["model"] = "resnet50-w4"
        raw["teachers"]["robust"]["model"] = "wrn-10-1"

    planned(change)


def test_an_untrained_student_is_not_evaluated():
    def change(raw: dict) -> None:
        raw["suites"] = {"main": {"attacks": ["clean"], "models": ["generators"]}}

    kinds = [e.kind for e in planned(change).artefacts.values()]
    assert kinds.count("evaluation") == 1
    kinds = [e.kind for e in planned(both(change, generator(warm=False))).artefacts.values()]
    assert kinds.count("evaluation") == 0
