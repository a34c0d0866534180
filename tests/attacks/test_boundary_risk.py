"""Boundary risks along an attack's path, and suites of weights kept during training."""

import math

import pytest
import torch

from pipeline.attacks import boundary_risk, pgd
from pipeline.core.attack_protocol import predict_classes
from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import Linf
from pipeline.errors import RetortError
from pipeline.models.classifier import get_epoch_file_name, save_classifier
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report import epoch_table
from pipeline.report.attack_labels import format_shift
from pipeline.report.boundary_table import compute_boundary_risks
from pipeline.report.outcomes import open_study
from pipeline.stages import evaluate, report
from pipeline.store.artefact import Job, open_artefact
from tests.attacks.test_every_attack import samples, small_net
from tests.helpers.graph import tiny
from tests.helpers.points import CLEAN, on_path
from tests.report.test_page import (
    RECIPE,
    Store,
    write_data,
    write_outcomes,
    write_picture,
    write_trained,
)
from tests.report.test_tables import outcome
from tests.stages.test_evaluate import (
    CLASSES,
    artefact,
    initialise_classifier,
    job,  # noqa: F401
)

EPS = 8 / 255


def test_the_path_is_the_ascent_s_and_every_sample_is_probed_where_it_lies():
    net = small_net()
    x, y = samples(net)
    attack = boundary_risk.Attack(steps=4, probe=3)
    found = attack(net, x, y, 5)
    assert list(found) == [on_path(i, probe, EPS) for i in range(4) for probe in (None, 3)]
    iterates: list[torch.Tensor] = []
    with freeze_modules(net):
        rng = make_generator("path", 5)
        climbed = {
            "steps": 3,
            "step_size": 2 / 255,
            "start": "gauss",
            "rng": rng,
            "iterates": iterates,
        }
        run_pgd(x, lambda z: cross_entropy(net(z), y), Linf(EPS), **climbed)
    for i, z in enumerate([x, *iterates]):
        assert torch.equal(found[on_path(i, eps=EPS)], predict_classes(net, z))
        (probed,) = pgd.Attack(eps=EPS, steps=3)(net, z, y, 5).values()
        assert torch.equal(found[on_path(i, 3, EPS)], probed)
    right = [(found[on_path(i, eps=EPS)] == y).sum() for i in range(4)]
    assert right[3] < right[0]


def test_the_passes_counted_are_the_passes_made():
    net, attack = small_net(), boundary_risk.Attack(steps=4, probe=3)
    x, y = samples(net)
    made = []
    net.register_forward_hook(lambda *_: made.append(1 + torch.is_grad_enabled()))
    attack(net, x, y, 0)
    assert sum(made) == attack.count_passes((3, 32, 32))


@pytest.mark.parametrize("fields", [{"steps": 1}, {"eps": 0.0, "steps": 2}, {"probe": 0}])
def test_a_path_without_samples_is_refused(fields):
    with pytest.raises(ValueError, match="steps|probe"):
        boundary_risk.Attack(**fields)


def test_risks_by_hand():
    points = {
        on_path(0): outcome([1, 1, 1, 0]),
        on_path(0, 20): outcome([1, 1, 0, 0]),  # 1 of 4 images is turned
        on_path(1): outcome([1, 1, 0, 0]),
        on_path(1, 20): outcome([1, 0, 0, 1]),
        on_path(2): outcome([1, 0, 0, 0]),
        on_path(2, 20): outcome([0, 0, 0, 0]),  # 2 of the 3 samples that were right
        CLEAN: outcome([0, 0, 0, 0]),
    }
    (found,) = compute_boundary_risks(points).values()
    assert (found.natural_risk, found.data_boundary_risk, found.image_count) == (0.25, 0.25, 4)
    assert found.path_boundary_risk == pytest.approx(2 / 3)
    assert found.risk_gain == pytest.approx(2 / 3 - 1 / 4)
    wrong = {p: o if p.sample == 0 else outcome([0, 0, 0, 0]) for p, o in points.items()}
    assert math.isnan(
        compute_boundary_risks(wrong)[on_path(0)].path_boundary_risk
    )  # no sample of the path was right


def test_parts_of_a_test_set_have_risks_of_their_own():
    points = {
        on_path(i, probe, corruption=name, severity=1): outcome([1, right])
        for name, right in (("fog", 0), ("snow", 1))
        for i in (0, 1)
        for probe in (None, 20)
    }
    found = compute_boundary_risks(points)
    assert {
        format_shift(point): (r.natural_risk, r.path_boundary_risk) for point, r in found.items()
    } == {
        "fog-1": (0.5, 0.0),
        "snow-1": (0.0, 0.0),
    }


def experiment(**suite) -> dict:
    """The tiny experiment in which one student keeps its first epoch, with one more suite."""
    raw = tiny()
    raw["students"]["rslad"]["recipe"] = {"epochs": 2, "batch": 64, "keep_epochs": [1, 2]}
    raw["suites"]["early"] = {"attacks": ["boundary_risk"], **suite}
    return raw


def test_a_suite_of_epochs_looks_at_the_models_that_keep_them():
    plan = make_plan_from_dict(experiment(epochs=[1, 2]))
    early = {name for kind, name in plan.refs_by_name if kind == "evaluation" and ".early" in name}
    assert early == {"rslad-0.epoch1.early", "rslad-0.epoch2.early"}
    for epoch in (1, 2):
        entry = plan.artefacts[plan.refs_by_name["evaluation", f"rslad-0.epoch{epoch}.early"]]
        assert entry.spec["epoch"] == epoch
        assert entry.inputs["model"].ref == plan.refs_by_name["student", "rslad-0"]


def test_a_suite_without_epochs_is_what_it_was():
    old, new = make_plan_from_dict(tiny()), make_plan_from_dict(experiment(epochs=[1]))
    for kind, name in old.refs_by_name:
        if kind == "evaluation" and not name.startswith("rslad"):
            assert new.refs_by_name[kind, name] == old.refs_by_name[kind, name]


def test_each_model_is_looked_at_where_its_own_recipe_keeps_weights():
    raw = experiment(epochs=[1, 2])
    raw["teachers"]["robust"]["recipe"] = {"epochs": 1, "batch": 64, "keep_epochs": [1]}
    found = {name for kind, name in make_plan_from_dict(raw).refs_by_name if ".early" in name}
    students = {"rslad-0.epoch1.early", "rslad-0.epoch2.early"}
    assert found == students | {"robust.epoch1.early"}


def test_an_epoch_that_no_model_keeps_is_named():
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(experiment(epochs=[1, 3]))
    assert str(caught.value) == (
        "suites.early.epochs: no model of the suite keeps the weights of epoch 3; add it to "
        "keep_epochs in the recipe of one"
    )


@pytest.mark.parametrize(
    ("suite", "expected"),
    [
        (
            {"epochs": [1], "attacks": ["clean"], "surrogate": "robust"},
            "epochs: does not go with 'surrogate'; drop one of them",
        ),
        (
            {"epochs": [1], "attacks": ["clean"], "dataset": "tiny"},
            "epochs: does not go with 'dataset'; drop one of them",
        ),
        (
            {"surrogate": "robust"},
            "attacks.boundary_risk: does not go with 'surrogate'; drop one of them",
        ),
        (
            {"attacks": ["boundary_risk", {"boundary_risk": {"steps": 5}}]},
            "attacks.boundary_risk: appears more than once; give the other a suite of its own",
        ),
    ],
)
def test_suites_that_could_not_be_told_apart_are_refused(suite, expected):
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(experiment(**suite))
    assert str(caught.value) == f"suites.early: {expected}"


def test_an_evaluation_of_an_epoch_reads_the_weights_kept_then(job, tmp_path):  # noqa: F811
    early = initialise_classifier("resnet8-s2-w8", 3, [0.5] * 3, [0.2] * 3, 1)
    model = job.inputs["model"]
    save_classifier(early, model / get_epoch_file_name(1), "resnet8-s2-w8", CLASSES)
    files = [*open_artefact(model).manifest.files, get_epoch_file_name(1)]
    (model / "manifest.json").unlink()
    artefact(model, "student", files, {})
    evaluate.run(job)
    last = evaluate.pq.read_table(job.folder / evaluate.OUTCOMES_FILE)
    other = Job(
        tmp_path / "early", "evaluation", "e", "k", {**job.spec, "epoch": 1}, job.inputs, {}
    )
    other.folder.mkdir()
    evaluate.run(other)
    found = evaluate.pq.read_table(other.folder / evaluate.OUTCOMES_FILE).to_pylist()
    clean = [row["prediction"] for row in found if row["attack"] == "clean"]
    images = evaluate.scale_to_unit_range(
        evaluate.open_dataset(job.inputs["dataset"]).read_split("test").images
    )
    assert clean == predict_classes(early.eval(), images).tolist()
    assert [row["prediction"] for row in found] != last["prediction"].to_pylist()
    assert {row["epoch"] for row in found} == {1}
    assert last["epoch"].null_count == len(last)


@pytest.fixture
def reported(tmp_path) -> Job:
    """A student evaluated as exported and after its first epoch, along paths and by PGD."""
    store = Store(tmp_path / "store")
    counts = {"train": 16, "val": 16, "test": 16}
    store.add("dataset", "tiny", {}, {}, write_data, {"classes": ("a", "b"), "counts": counts})
    spec = {"model": "r8", "recipe": RECIPE, "device": "cpu", "objective": {"kd": {}}}
    store.add("student", "kd-0", spec, {"dataset": "dataset/tiny"}, write_trained)
    path = {on_path(0): 12, on_path(0, 20): 8, on_path(1): 8, on_path(1, 20): 4}
    early = {point: (right - 4, 16) for point, right in path.items()}
    path = {point: (right, 16) for point, right in path.items()}
    inputs = {"model": "student/kd-0", "dataset": "dataset/tiny"}
    looked = {
        "kd-0.main": ({}, {CLEAN: (12, 16)}, "clean"),
        "kd-0.path": ({}, path, "boundary_risk"),
        "kd-0.epoch1.path": ({"epoch": 1}, early, "boundary_risk"),
        "kd-0.epoch1.main": ({"epoch": 1}, {CLEAN: (4, 16)}, "clean"),
        "kd-0.epoch1.fewer": ({"epoch": 1}, {CLEAN: (8, 8)}, "clean"),
    }
    for name, (own, points, attack) in looked.items():
        spec = {"attacks": [{attack: {"eps": EPS}}], **own}
        store.add("evaluation", name, spec, inputs, lambda at, p=points: write_outcomes(at, p))
    return store.job()


def test_the_report_has_a_table_of_each_and_leaves_them_out_of_the_main_one(reported):
    report.run(reported)
    text = (reported.folder / "report.md").read_text()
    main, _, rest = text.partition("## During training")
    during, _, risk = rest.partition("## Boundary risk")
    assert "75.0 [" in main and "25.0 [" not in main and "path" not in main.split("## Cost")[0]
    assert "kd, epoch 1" in during and "25.0 [" in during
    rows = [
        [c.strip() for c in line.split("|")[1:-1]] for line in risk.splitlines() if "kd" in line
    ]
    assert rows[:2] == [
        ["kd-0", "exported", "path", "all", "0.250", "0.250", "0.500", "+0.250", "+0.000", "16"],
        ["kd-0", "1", "path", "all", "0.500", "0.250", "1.000", "+0.750", "+0.250", "16"],
    ]
    assert epoch_table.make_epoch_groups(open_study(reported))[0].image_count == 16


def test_a_generator_that_only_suites_of_epochs_look_at_has_its_row(tmp_path):
    store = Store(tmp_path / "store")
    spec = {"recipe": RECIPE, "device": "cpu", "steps_per_epoch": 1}
    store.add("teacher", "n", spec, {}, write_trained)
    store.add("generator", "g", spec, {"teacher": "teacher/n"}, write_picture)
    clean = {CLEAN: (4, 16)}
    asked = {"attacks": [{"clean": {}}], "epoch": 1}
    inputs = {"model": "generator/g"}
    name = "g-warm.epoch1.early"
    store.add("evaluation", name, asked, inputs, lambda at: write_outcomes(at, clean))
    (row,) = epoch_table.make_epoch_groups(open_study(store.job()))
    assert row.name == "g (stage I), epoch 1"
