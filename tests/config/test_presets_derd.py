"""DERD's presets against the settings that its paper and its baselines' code state."""

import csv
from functools import cache
from pathlib import Path

import pytest
import yaml

from pipeline.config.reader import Config, parse_config
from pipeline.data_free.session import make_generator_size, resolve_loss
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan
from tests.helpers.graph import ROOT

PRESETS = ROOT / "workflow" / "presets"
CIFAR = ("derd-cifar10", "derd-cifar100")


@cache
def config(name: str) -> Config:
    return parse_config(yaml.safe_load((PRESETS / f"{name}.yaml").read_text()))


@pytest.mark.parametrize("name", CIFAR)
def test_both_teachers_and_stages_have_the_paper_s_schedule(name):
    setup = config(name)
    derd = setup.students["derd-rn18"]
    trained = [setup.teachers[teacher].recipe for teacher in derd.teachers.values()]
    stage_1 = setup.generators["derd-rn18"].recipe
    for recipe in (*trained, stage_1):
        assert (recipe.epochs, recipe.schedule, recipe.gamma) == (2000, "step", 0.1)
        assert [2000 * share for share in recipe.milestones] == pytest.approx([800, 1600])
    for recipe in (*trained, stage_1, derd.recipe):
        assert (recipe.batch, recipe.lr) == (512, 0.01)
        assert (recipe.momentum, recipe.weight_decay) == (0.9, 5e-4)


@pytest.mark.parametrize("name", [*CIFAR, "derd-imagenet100"])
def test_attacks_have_ten_steps_of_two_levels(name):
    setup, eps = config(name), 0.03 if name == "derd-imagenet100" else 8 / 255
    attacks = [pair for attack in setup.suites["main"].attacks for pair in attack.items()]
    starts = set()
    for kind, options in attacks:
        assert kind in ("clean", "fgsm", "pgd", "cw_linf")
        if kind in ("pgd", "cw_linf"):
            found = {"step": 2 / 255, "eps": 8 / 255, "start": "uniform", **options}
            assert found["eps"] == pytest.approx(eps)
            assert found["step"] == pytest.approx(2 / 255)
            if found["steps"] != 20:  # the twenty steps of rows that the paper quotes
                assert found["steps"] == 10
                starts.add((kind, found["start"]))
    assert starts == {("pgd", "uniform"), ("pgd", "gauss"), ("cw_linf", "uniform")}
    (robust,) = [t for n, t in setup.teachers.items() if n in ("robust-rn34", "robust-vit-s")] or [
        setup.teachers["robust-wrn34-20"]
    ]
    options = {"eps": 8 / 255, "step": 2 / 255, **robust.objective["pgd_at"]}
    assert (options["eps"], options["step"]) == pytest.approx((eps, 2 / 255))


@pytest.mark.parametrize("name", CIFAR)
def test_baselines_have_their_code_s_generators(name):
    wanted = {
        "dafl": (512, [256, 128, 64]),
        "dfad": (256, [256, 128, 64]),
        "zskt": (256, [256, 128, 64]),
        "cmi": (256, [128, 128, 64]),
        "dfhl_rs": (256, [128, 128, 64]),
    }
    seen = set()
    for section in config(name).generators.values():
        (loss,) = resolve_loss(section)
        if loss in wanted:
            size = make_generator_size(section, 3)
            widths = [size.channels, *(size.channels >> k for k in range(size.doublings))]
            if size.halves_first:
                widths = [size.channels >> k for k in range(size.doublings + 1)]
            assert (size.latent, widths) == wanted[loss]
            seen.add(loss)
    assert seen == set(wanted)


@pytest.mark.parametrize(
    ("name", "batch", "iterations", "rates", "smoothing"),
    [
        ("derd-cifar10", 256, 10, (0.002, 0.01), 0.2),
        ("derd-cifar100", 512, 15, (0.005, 0.015), 0.02),
    ],
)
def test_dfhl_rs_steals_a_resnet18_as_in_its_log(name, batch, iterations, rates, smoothing):
    setup = config(name)
    student, section = setup.students["dfhl_rs-rn18"], setup.generators["dfhl_rs-rn18"]
    target = setup.students[student.teachers["teacher"]]
    assert (target.model, student.model) == ("resnet18", "resnet18")
    assert set(target.objective) == {"pgd_at"}
    assert section.teacher == student.teachers["teacher"]
    recipe = student.recipe
    assert (recipe.epochs, recipe.batch, recipe.lr) == (300, batch, 0.1)
    assert (recipe.weight_decay, recipe.schedule, recipe.augment) == (1e-4, "cosine", "crop_flip")
    assert section.rounds.iterations == iterations
    assert section.rounds.made == batch
    assert (section.lr_generator, section.rounds.lr_images) == rates
    assert section.pool == 300 * batch
    assert section.losses["dfhl_rs"]["smoothing"] == smoothing
    assert section.steps_per_epoch == 500


@pytest.mark.parametrize("name", CIFAR)
def test_cmi_has_its_script_s_rates(name):
    section = config(name).generators["cmi-rn18"]
    assert (section.rounds.iterations, section.rounds.lr_images) == (200, 1e-3)
    assert section.lr_generator == 1e-3
    assert config(name).students["cmi-rn18"].recipe.augment == "crop_flip"


@pytest.mark.parametrize("name", CIFAR)
def test_cmi_reads_the_stages_of_a_resnet34_alone(name):
    """Its script takes them for that teacher, and every BatchNorm of another."""
    setup, seen = config(name), 0
    for section in setup.generators.values():
        losses = resolve_loss(section)
        if "cmi" in losses:
            of_stages = setup.teachers[section.teacher].model == "resnet34"
            assert losses["cmi"].get("layers", "norms") == ("stages" if of_stages else "norms")
            seen += 1
    assert seen == 2


def test_rows_that_the_paper_quotes_say_so():
    with (PRESETS / "rows.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["paper"] == "derd"]
    for row in rows:
        if row["table"] in ("2", "3"):
            quoted = row["method"] in ("ARD", "IAD", "RSLAD", "DFHL_RS")
            assert ("quotes" in row["reason"]) == quoted, row


def plan_study(name: str, folder: Path) -> Plan:
    """The plan of a file of workflow/, its store and data in an empty folder."""
    raw = yaml.safe_load((ROOT / "workflow" / name).read_text())
    return make_plan_from_dict(
        raw | {"store": str(folder / "store"), "run": {"data": str(folder / "data")}}
    )


@pytest.mark.parametrize(
    ("name", "other", "roles", "seeds"),
    [
        ("derd-goals-fashion.yaml", "derd-study.yaml", ("natural", "robust"), 3),
        ("derd-goals-cifar10.yaml", "bf16-study.yaml", ("robust",), 2),
    ],
)
def test_a_study_of_goals_has_seeds_of_derd_and_six_baselines(name, other, roles, seeds, tmp_path):
    study, shared = plan_study(name, tmp_path), plan_study(other, tmp_path)
    for role in roles:
        assert study.refs_by_name["teacher", role] == shared.refs_by_name["teacher", role]
    for seed in range(seeds):
        student = study.artefacts[study.refs_by_name["student", f"derd-{seed}"]]
        warm = study.refs_by_name["generator", f"derd.seed{seed}"]
        assert student.inputs["generator"].ref == warm
        assert ("evaluation", f"derd.seed{seed}-warm.stage-1") in study.refs_by_name
    for method in ("dafl", "dfad", "zskt", "cmi", "dfhl_rs", "dfard"):
        student = study.artefacts[study.refs_by_name["student", f"{method}-0"]]
        robust = study.refs_by_name["teacher", "robust"]
        assert student.inputs["teachers.teacher"].ref == robust
    assert ("generator", "short.seed0") in study.refs_by_name


def test_the_short_run_of_dfhl_rs_differs_from_the_preset_in_epochs_alone(tmp_path):
    preset = make_plan_from_dict(
        yaml.safe_load((PRESETS / "derd-cifar10.yaml").read_text())
        | {"store": str(tmp_path / "store"), "run": {"data": str(tmp_path / "data")}}
    )
    short = plan_study("dfhl-rs-short.yaml", tmp_path)
    epochs = {}
    for kind, name in (
        ("student", "dfhl_rs-rn18-0"),
        ("student", "pgd_at-rn18-0"),
        ("generator", "dfhl_rs-rn18"),
    ):
        ours, theirs = (p.artefacts[p.refs_by_name[kind, name]] for p in (short, preset))
        assert {r: e.name for r, e in ours.inputs.items()} == {
            r: e.name for r, e in theirs.inputs.items()
        }
        one, two = (dict(entry.spec) for entry in (ours, theirs))
        recipes = [dict(spec.pop("recipe")) for spec in (one, two)]
        epochs[name] = tuple(recipe.pop("epochs") for recipe in recipes)
        assert one == two and recipes[0] == recipes[1]
    assert epochs == {
        "dfhl_rs-rn18-0": (20, 300),
        "pgd_at-rn18-0": (20, 200),
        "dfhl_rs-rn18": (20, 300),
    }
    main = short.artefacts[short.refs_by_name["evaluation", "dfhl_rs-rn18-0.main"]]
    assert [next(iter(attack)) for attack in main.spec["attacks"]] == ["clean", "pgd", "autoattack"]
