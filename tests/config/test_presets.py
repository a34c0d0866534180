"""The papers' presets and the study: planned without data, a section for each printed row."""

import csv
from collections import Counter
from functools import cache
from itertools import product
from pathlib import Path

import pytest
import yaml

from pipeline.config.reader import Config, parse_config
from pipeline.config.recipe import Recipe
from pipeline.discovery import list_plugin_names
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan
from pipeline.training.optim import compute_learning_rate
from tests.helpers.graph import ROOT, Folder

PRESETS = ROOT / "workflow" / "presets"
NAMES = sorted(path.stem for path in PRESETS.glob("*.yaml"))
COLUMNS = ["paper", "table", "dataset", "teacher", "student", "method", "preset", "entry", "reason"]
# Distinct (dataset, teacher, student, method) of each printed table.
ROWS = {
    "adaad": (("1", 3), ("2", 32), ("3", 16), ("4", 8), ("5", 7)),
    "darwin": (
        *(("1", 30), ("2", 32), ("3", 15), ("4", 12), ("5", 16), ("6", 12), ("7", 8), ("8", 10)),
        ("weighting", 8),
    ),
    "dad": (
        *(("1", 119), ("2", 34), ("3", 40), ("4", 24), ("5", 136), ("6", 32), ("7", 6), ("8", 70)),
        *(("9", 42), ("10", 12), ("11", 12), ("12", 6)),
    ),
    "derd": (("1", 6), ("2", 26), ("3", 24), ("4", 8), ("5", 4), ("6", 2)),
}
PAIRS = {  # DERD's teachers by role
    "T_nat RN34 + T_rob RN34": {"natural": "resnet34", "robust": "resnet34"},
    "T_nat RN50 + T_rob WRN3420": {"natural": "resnet50", "robust": "wrn-34-20"},
}
TEACHERS = {"ViT-B": "vit-b", "DeiT-S": "deit-s", "WRN-34": "trades-wrn34"}


def elsewhere(path: Path, folder: Path) -> dict:
    """The configuration at a path, with its store and data in an empty folder."""
    raw = yaml.safe_load(path.read_text())
    return raw | {"store": str(folder / "store"), "run": {"data": str(folder / "data")}}


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """A function that plans a preset, once."""
    folder = tmp_path_factory.mktemp("presets")
    return cache(lambda name: make_plan_from_dict(elsewhere(PRESETS / f"{name}.yaml", folder)))


@cache
def config(name: str) -> Config:
    return parse_config(yaml.safe_load((PRESETS / f"{name}.yaml").read_text()))


def rows() -> list[dict[str, str]]:
    with (PRESETS / "rows.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_planned_without_data(name, planned):
    plan: Plan = planned(name)
    assert plan.run["data"].endswith("data")
    assert not plan.store.exists()
    for section in config(name).students:
        assert ("student", f"{section}-0") in plan.refs_by_name
        assert ("evaluation", f"{section}-0.main") in plan.refs_by_name


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_what_it_is(name):
    first = (PRESETS / f"{name}.yaml").read_text().splitlines()[0]
    assert first.startswith("# ")
    assert config(name).device == ("cpu" if name == "derd-fashion" else "cuda")
    assert config(name).report is not None


def test_every_printed_row_is_there_once():
    table = rows()
    assert list(table[0]) == COLUMNS
    for paper, tables in ROWS.items():
        assert Counter(r["table"] for r in table if r["paper"] == paper) == dict(tables)
    identities = [tuple(r[c] for c in COLUMNS[:6]) for r in table]
    assert len(set(identities)) == len(identities)


def test_every_row_names_its_entry_or_says_why_not():
    for row in rows():
        section, _, name = row["entry"].partition(".")
        if not row["entry"]:
            assert row["reason"]
            continue
        assert section in ("teachers", "students", "generators")
        assert name in getattr(config(row["preset"]), section), row


def test_a_row_s_entry_has_the_row_s_networks():
    """A name proves nothing: a section must train the networks that the row prints."""
    known = {"ResNet-18": "resnet18", "RN-18": "resnet18", "MNV2": "mobilenetv2"}
    known |= {"MN-V2": "mobilenetv2", "MobileNet2": "mobilenetv2", "MobileNetV2": "mobilenetv2"}
    known |= {"ResNet18": "resnet18", "ResNet-18": "resnet18"}
    checked = 0
    for row in rows():
        section, _, name = row["entry"].partition(".")
        if section in ("", "teachers") or row["preset"] == "darwin-imagenet100":
            continue
        if row["paper"] == "dad":  # tests/config/test_presets_dad.py
            continue
        setup = config(row["preset"])
        student = getattr(setup, section)[name]
        assert student.model == known[row["student"]], row
        roles = student.teachers if section == "students" else {"natural": student.teacher}
        for role, teacher in roles.items():
            model = {**setup.teachers, **setup.students}[teacher].model
            printed = row["teacher"]
            if printed in PAIRS:
                assert model == PAIRS[printed][role], row
            elif printed in TEACHERS:
                assert teacher == TEACHERS[printed], row
            elif printed:
                assert model == known.get(printed, printed.lower()), row
            checked += 1
    assert checked == 225


@pytest.mark.parametrize("teacher", ["wrn34-20", "wrn34-10"])
def test_the_radius_sweep_steps_by_a_quarter(teacher):
    students = config("adaad-cifar10").students
    swept = [s for name, s in students.items() if name.startswith(f"adaad-radius-rn18-{teacher}.")]
    radii = [255 * s.objective["adaad"]["eps"] for s in swept]
    assert radii == pytest.approx([16, 24, 32])
    for student in swept:
        assert student.objective["adaad"]["step"] == pytest.approx(
            student.objective["adaad"]["eps"] / 4
        )


# Per recipe of the presets: the epochs, counted from 1, that are the first at a lower rate. AdaAD's
# code and the papers: 101 and 151 of 200, 101 and 106 of 110. TRADES' code: its loop counts from 1
# and lowers the rate in epoch 75.
FIRST_LOWER = {
    "common": (200, [101, 151]),
    "kept": (200, [101, 151]),
    "unlabelled": (200, [101, 151]),
    "hundred": (100, [51, 76]),
    "pgd-at": (110, [101, 106]),
    "trades": (76, [75]),
    "lee": (200, [101, 151]),
    "averaged": (200, [101, 151]),
    "iad": (200, [101, 151]),
    "plain": (200, [101, 151]),
    "mtard": (300, [216, 261, 286]),
}


FALLING = [name for name in NAMES if name.startswith(("adaad", "darwin", "recent"))]


@pytest.mark.parametrize("name", FALLING)
def test_rates_fall_in_the_epochs_that_the_papers_say(name):
    raw = config(name).recipes
    found = {n: Recipe.model_validate(recipe) for n, recipe in raw.items()}
    found = {n: recipe for n, recipe in found.items() if recipe.schedule == "step"}
    assert "trades" in found and found.keys() <= FIRST_LOWER.keys()
    for recipe_name, recipe in found.items():
        epochs, lower = FIRST_LOWER[recipe_name]
        rates = [compute_learning_rate(recipe, epoch / epochs) for epoch in range(epochs)]
        assert recipe.epochs == epochs
        falls = [i + 1 for i in range(1, epochs) if rates[i] < rates[i - 1]]
        assert falls == lower, (name, recipe_name)
        assert rates[lower[0] - 1] == pytest.approx(0.1 * rates[0])


def test_a_preset_is_dry_run_by_snakemake(tmp_path):
    folder = Folder(tmp_path)
    folder.write(elsewhere(PRESETS / "adaad-cifar100.yaml", tmp_path))
    jobs = folder.planned()
    assert {"teacher/wrn34-10", "student/adaad-rn18-wrn34-10-0", "report/report"} <= jobs
    assert {"evaluation/adaiad-mnv2-wrn34-10-0.autoattack"} <= jobs


def test_darwin_s_eighth_table_looks_at_every_kept_epoch(planned):
    plan = planned("darwin-cifar10")
    found = {
        name for kind, name in plan.refs_by_name if kind == "evaluation" and "boundary" in name
    }
    students = ("darwin-rn18-self-100", "darwin-mnv2-self-100")
    assert found == {f"{s}-0.epoch{e}.boundary" for s in students for e in range(20, 101, 20)}


def test_derd_s_ablation_has_three_seeds_and_shares_the_preset_s_artefacts(tmp_path, planned):
    study = make_plan_from_dict(elsewhere(ROOT / "workflow" / "derd-study.yaml", tmp_path))
    preset = planned("derd-fashion")
    for kind, here, there in (
        *(("teacher", name, name) for name in ("natural", "robust")),
        ("generator", "derd.seed0", "derd"),
        ("student", "sa-eg-sga-0", "derd-0"),
    ):
        assert study.refs_by_name[kind, here] == preset.refs_by_name[kind, there]
    for seed in range(3):
        warm = study.refs_by_name["generator", f"derd.seed{seed}"]
        assert ("evaluation", f"derd.seed{seed}-warm.main") in study.refs_by_name
        for row in ("sa", "sa-eg", "sa-eg-ga", "sa-eg-sga", "without-stage-1"):
            student = study.artefacts[study.refs_by_name["student", f"{row}-{seed}"]]
            assert student.spec["seed"] == seed
            assert (student.inputs["generator"].ref == warm) == (row != "without-stage-1")
            evaluation = study.artefacts[study.refs_by_name["evaluation", f"{row}-{seed}.main"]]
            assert {"clean", "pgd", "autoattack"} == {
                a for e in evaluation.spec["attacks"] for a in e
            }


def test_derd_s_study_has_every_baseline_robust_and_as_published(tmp_path, planned):
    study = make_plan_from_dict(elsewhere(ROOT / "workflow" / "derd-study.yaml", tmp_path))
    preset = planned("derd-fashion")
    baselines = {"dafl", "dfad", "zskt", "cmi", "dfhl_rs", "dfard"}
    for form, teacher in (("", "robust"), ("-plain", "natural")):
        compared = set()
        for name, seed in product(baselines, range(3)):
            student = study.artefacts[study.refs_by_name["student", f"{name}{form}-{seed}"]]
            (options,) = student.spec["objective"].values()
            own = name == "dfhl_rs"  # its robust row has no RSLAD attack, as released
            assert (options.get("attack") == "rslad") == (form == "" and not own)
            assert student.inputs["teachers.teacher"].ref == study.refs_by_name["teacher", teacher]
            compared |= set(study.artefacts[student.inputs["generator"].ref].spec["losses"])
        assert compared == set(list_plugin_names("generator_losses")) - {"derd", "inversion"}
    for seed in range(3):
        student = study.artefacts[study.refs_by_name["student", f"dfhl_rs-rslad-{seed}"]]
        assert student.spec["objective"]["dfhl_rs"]["attack"] == "rslad"
    for name in baselines:
        assert (
            study.refs_by_name["student", f"{name}-0"]
            == preset.refs_by_name["student", f"{name}-0"]
        )


@pytest.mark.parametrize("name", ["darwin-cifar10", "darwin-cifar100"])
def test_darwin_s_figure_3b_is_autoattack_alone(name):
    """At 8/255 it is Table 1's; Figure 3a makes its own path of each image, without a suite."""
    setup = config(name)
    attacks = setup.suites["radii"].attacks
    assert all(list(attack) == ["autoattack"] for attack in attacks)
    radii = sorted(255 * attack["autoattack"]["eps"] for attack in attacks)
    assert radii == pytest.approx([2, 4, 6, 10, 12, 14, 16])
    assert {"darwin.3a", "darwin.3b"} <= set(setup.report.figures)
    assert "path" not in setup.suites


def test_figures_that_compute_show_named_models(planned):
    """AdaAD's Figure 3: weights of 0.5 to 0.9 of training. DARWIN's Figure 4: also a teacher."""
    found = {}
    for name, figure in (("adaad-cifar10", "adaad.3"), ("darwin-cifar10", "darwin.4")):
        plan = planned(name)
        spec = plan.artefacts[plan.refs_by_name["report", "report"]].spec
        assert figure in spec["figures"]
        found[name] = set(spec["figure_models"])
    students = {f"{method}-rn18-wrn34-20" for method in ("rslad", "adaad")}
    assert found["adaad-cifar10"] == {f"student/{name}-0" for name in students}
    darwin = {f"student/{method}-rn18-wrn34-0" for method in ("rslad", "darwin")}
    assert found["darwin-cifar10"] == darwin | {"teacher/trades-wrn34"}
    for name in students:
        recipe = config("adaad-cifar10").students[name].recipe
        shares = [epoch / recipe.epochs for epoch in recipe.keep_epochs]
        assert shares == pytest.approx([0.5, 0.6, 0.7, 0.8, 0.9])
