"""Every printed row: its entry in a preset is what the row says, and is measured in each column.

The entry is named by hand in ``rows.csv``. The report finds the model of a row by how it was made.
Here the two are compared, with each preset planned and not run.
"""

from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint, list_radii
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report.boundary_table import BoundaryRisks
from pipeline.report.distribution_shift import ALEXNET_ERRORS
from pipeline.report.outcomes import Outcome, Study, make_attack_point
from pipeline.report.papers.comparison import Model, compare_with_print
from pipeline.report.papers.differences import find_printed_epochs
from pipeline.report.papers.metrics import Measurements
from pipeline.report.papers.models import find_surrogates
from pipeline.report.papers.printed import read_printed_table
from pipeline.report.papers.settings import make_setting_reader
from pipeline.schema import make_plugin
from pipeline.store.artefact import Artefact, Manifest
from tests.config.test_presets import PRESETS, config, elsewhere, rows

TESTED = Outcome(np.arange(4), np.array([1.0, 1.0, 0.0, 0.0]))
RISKS = BoundaryRisks(0.3, 0.2, 0.5, 4)
ENTRIES = {  # paper, table, data set, teacher, student, method -> preset, entry
    tuple(list(row.values())[:6]): (row["preset"], row["entry"]) for row in rows() if row["entry"]
}
TABLES = {}  # preset -> the tables of which it has rows
for (paper, table, *_), (preset, _) in ENTRIES.items():
    TABLES.setdefault(preset, set()).add(f"{paper}.{table}")


def study(path: Path) -> Study:
    """The planned artefacts of a configuration as a study; nothing lies on disk."""
    plan = make_plan_from_dict(elsewhere(path, Path("nowhere")))
    artefacts = {}
    for ref, entry in plan.artefacts.items():
        inputs = {role: each.key for role, each in entry.inputs.items()}
        manifest = Manifest(entry.kind, entry.name, entry.key, entry.spec, inputs, {}, {}, {})
        artefacts[ref] = Artefact(Path(ref), manifest)
    return Study(artefacts, {f"{k}/{n}": ref for (k, n), ref in plan.refs_by_name.items()})


def points_of(attack: dict) -> list[AttackPoint]:
    """The points that an attack of a suite leaves, as the report reads them."""
    ((name, options),) = attack.items()
    made = make_plugin("attacks", "Attack", name, options)
    if name in ("clean", "cw_l2", "jsma", "jsma_true"):
        return [AttackPoint(name)]
    settings = ("steps", "step", "start", "restarts") if name == "pgd" else ()
    found = AttackPoint(name, **{key: getattr(made, key) for key in settings})
    radii = list_radii(made.eps) if hasattr(made, "eps") else (0.0,)
    return [make_attack_point(vars(replace(found, eps=eps))) for eps in radii]


def shifted_points(test_set: str) -> list[AttackPoint]:
    """The points of the test images alone; ImageNet-C has one for each of its folders."""
    if test_set != "imagenet-c":
        return [AttackPoint("clean")]
    clean = AttackPoint("clean")
    return [
        replace(clean, corruption=name, severity=severity)
        for name in ALEXNET_ERRORS
        for severity in range(1, 6)
    ]


def measurements(found: Study, model: Artefact, surrogates: dict[str, str]) -> Measurements:
    """What a preset's suites would measure on one model: of four images, half are correct."""
    own, shifted, risks = {}, {}, {}
    for evaluation in found.get_artefacts("evaluation").values():
        spec, inputs = get_spec(evaluation.manifest), evaluation.manifest.inputs
        if inputs["model"] != model.manifest.key:
            continue
        surrogate = found.find_name(inputs["surrogate"]) if "surrogate" in inputs else None
        if spec.shifted:
            name = found.find_name(inputs["dataset"])
            shifted[name] = dict.fromkeys(shifted_points(name), TESTED)
        elif any("boundary_risk" in attack for attack in spec.attacks):
            risks[spec.epoch] = RISKS
        else:
            points = [replace(p, surrogate=surrogate) for a in spec.attacks for p in points_of(a)]
            own |= dict.fromkeys(points, TESTED)
    return Measurements([own], [shifted], [risks], surrogates)


@cache
def models(name: str) -> list[Model]:
    """The models of a preset as the report would read them."""
    return models_of(study(PRESETS / f"{name}.yaml"))


def models_of(found: Study) -> list[Model]:
    """The models of a study as the report would read them, had all its suites run."""
    found.__dict__["outcomes_by_model"] = {}
    reader, surrogates = make_setting_reader(found), find_surrogates(found)
    return [
        Model(
            group.name,
            reader.describe(group.members[0]),
            measurements(found, group.members[0], surrogates),
        )
        for group in found.groups
    ]


@cache
def compared(preset: str, table: str) -> list[tuple]:
    """Entry, row and cell of each printed value that has its entry in a preset."""
    printed, found = read_printed_table(table), []
    comparison = compare_with_print(printed, models(preset))
    for row in comparison.rows:
        for cell in row.cells:
            value = cell.printed
            if value is not None:
                names = (value.dataset, row.identity.teacher, row.identity.student)
                known = (printed.paper, printed.table, *names, row.identity.method)
                if ENTRIES.get(known, ("",))[0] == preset:
                    found.append((ENTRIES[known][1], row, cell))
    return found


ASKED = [(preset, table) for preset in sorted(TABLES) for table in sorted(TABLES[preset])]


@pytest.mark.parametrize(("preset", "table"), ASKED)
def test_every_row_s_entry_is_made_as_the_row_says_and_measured_in_its_columns(preset, table):
    found = compared(preset, table)
    assert found
    for entry, row, cell in found:
        section, _, name = entry.partition(".")
        stage = " (stage I)" if section == "generators" else ""
        assert row.model == f"{name}{stage}", row.identity
        assert cell.ours is not None, (row.identity, cell.printed.metric)


@pytest.mark.parametrize("preset", sorted(TABLES))
def test_a_preset_s_report_shows_the_tables_of_its_rows(preset):
    assert set(config(preset).report.tables) == TABLES[preset]


def test_every_entry_of_the_rows_was_looked_at():
    looked_at = Counter()
    for preset, table in ASKED:
        identities = {
            (row.identity, cell.printed.dataset) for _, row, cell in compared(preset, table)
        }
        looked_at[preset] += len(identities)
    assert looked_at == Counter(preset for preset, _ in ENTRIES.values())
    assert looked_at.total() == 699


@pytest.mark.parametrize("table", ["derd.2", "derd.3"])
def test_quoted_rows_of_derd_say_which_attacks_are_shorter(table):
    quoted = 0
    for entry, row, cell in compared("derd-cifar10", table):
        said = [text for text in row.differences if text.startswith("attacks of 10 steps")]
        longer = ["attacks of 10 steps, quoted under 20 or more (pgd_t, cw_linf)"]
        if entry == "students.dfhl_rs-rn18":  # its paper prints no PGD_T
            longer = [longer[0].replace("pgd_t, ", "")]
        assert said == (longer if cell.printed.is_quoted else []), entry
        quoted += cell.printed.is_quoted
    assert quoted


def test_table_seven_of_dad_is_counted():
    """Passes over the 3 of standard training: DAT 8, whose VQGAN the paper counts too; DAD 6."""
    counted = {
        (entry, cell.printed.metric): (cell.ours.value, cell.printed.value)
        for entry, _, cell in compared("dad-imagenet-rn50", "dad.7")
    }
    assert counted == {
        ("students.rn50", "attack_steps"): (0, 0),
        ("students.rn50", "budget"): (1, 1),
        ("students.dat-rn50", "attack_steps"): (1, 1),
        ("students.dat-rn50", "budget"): (pytest.approx(8 / 3), 3.5),
        ("students.dad-rn50", "attack_steps"): (1, 1),
        ("students.dad-rn50", "budget"): (2, 2),
    }


def settings_of(paper: str):
    """Table, row, setting and recipe of every entry of a paper's rows, each once."""
    for preset, name in ASKED:
        table = read_printed_table(name)
        known = {(m.setting.kind, m.name): m.setting for m in models(preset)}
        for entry, identity in {(e, row.identity): None for e, row, _ in compared(preset, name)}:
            section, _, label = entry.partition(".")
            setup = getattr(config(preset), section)[label]
            if table.paper == paper and section != "generators":
                yield table, identity, known[section.removesuffix("s"), label], setup.recipe


@pytest.mark.parametrize("paper", ["adaad", "dad", "darwin", "derd"])
def test_entries_train_as_long_as_the_paper_says(paper):
    """DERD's teachers are left to their own test: those of ImageNet-100 train by another recipe."""
    checked = 0
    for table, identity, setting, recipe in settings_of(paper):
        printed = find_printed_epochs(table, identity)
        if printed is not None and table.name != "derd.1":
            assert recipe.epochs == printed == setting.epochs, identity
            checked += 1
    assert checked == {"adaad": 63, "dad": 38, "darwin": 0, "derd": 8}[paper]


@pytest.mark.parametrize(("paper", "count"), [("adaad", 63), ("darwin", 132)])
def test_students_have_the_usual_rate_and_attack(paper, count):
    checked = 0
    for table, identity, setting, recipe in settings_of(paper):
        if setting.kind == "teacher":
            continue
        assert (recipe.lr, recipe.batch, recipe.momentum) == (0.1, 128, 0.9), identity
        assert (recipe.weight_decay, recipe.gamma) == (5e-4, 0.1), identity
        drops = (100 / 110, 105 / 110) if recipe.epochs == 110 else (0.5, 0.75)
        assert recipe.milestones == pytest.approx(drops), identity
        options = setting.options
        assert (255 * options["eps"], 255 * options["step"]) == pytest.approx((8, 2)), identity
        assert options["steps"] == 10, (table.name, identity)
        checked += 1
    assert checked == count


def test_derd_s_rows_train_against_ten_steps_of_two_levels():
    """Its own objective attacks without a radius; `natural` does not attack."""
    attacked = Counter()
    for table, identity, setting, _ in settings_of("derd"):
        options = setting.options
        if "steps" in options:
            assert options["steps"] == 10, (table.name, identity)
            assert 255 * options["step"] == pytest.approx(2), (table.name, identity)
            radius = 0.03 if identity.dataset == "imagenet100" else 8 / 255
            assert options.get("eps", radius) == pytest.approx(radius), (table.name, identity)
        attacked["steps" in options, setting.objective == "natural"] += 1
    assert attacked == {(True, False): 62, (False, True): 7}


def test_table_four_of_dad_begins_with_weights_of_imagenet_21k():
    setup = config("dad-imagenet-vitb")
    names = {entry for (p, t, *_), (_, entry) in ENTRIES.items() if (p, t) == ("dad", "4")}
    assert names == {f"students.{name}-in21k" for name in ("vit", "dat", "dad")}
    for name in names:
        assert "in21k" in setup.students[name.removeprefix("students.")].init.path
    for name in ("vit", "dat", "dad"):
        assert setup.students[name].init is None


def test_figure_two_of_dad_and_of_adaad_are_in_a_preset():
    report = config("dad-imagenet-rn50").report
    assert report.wasserstein.network == "rn50"
    students = config("adaad-cifar10").students
    swept = Counter(name.partition("-radius-")[0] for name in students if "-radius-" in name)
    taught = dict.fromkeys(("ard", "iad", "rslad", "akd", "adaad", "adaiad"), 6)  # two teachers
    assert swept == taught | {"pgd_at": 3, "trades": 3}
    for name, student in students.items():
        if "-radius-" in name:
            (options,) = student.objective.values()
            assert options["step"] == pytest.approx(options["eps"] / 4), name
