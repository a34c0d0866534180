"""Results as data: rows, means over seeds, paired comparisons and the sentences made of them."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.cli.show_results import format_results
from pipeline.errors import RetortError
from pipeline.report.outcomes import ModelGroup, Outcome, open_study
from pipeline.report.page.provenance import link_artefacts
from pipeline.report.results import pivot
from pipeline.report.results.answer import (
    Verdict,
    judge_threat,
    judge_threats,
    list_names,
    make_answers,
)
from pipeline.report.results.rows import (
    collect_measurements,
    flatten_row,
    format_csv,
    list_columns,
    make_result_rows,
    parse_csv,
)
from pipeline.report.results.threats import Score, Threat, find_threats
from pipeline.report.shift_table import collect_shift_facts
from pipeline.report.statistics.resampling import (
    RESAMPLES,
    Difference,
    compare_models,
    draw_seeds,
    resample_accuracies,
)
from pipeline.stages import report
from pipeline.store.artefact import write_manifest
from tests.helpers.points import CLEAN
from tests.report.test_page import (
    CLASSES,
    RECIPE,
    Store,
    full_store,
    write_data,
    write_outcomes,
    write_trained,
)

# webdataset leaves the closing of a shard's file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def outcome(*right):
    """An outcome on the images 0, 1, …"""
    return Outcome(np.arange(len(right)), np.array(right, float))


@pytest.fixture(scope="module")
def reported(tmp_path_factory):
    """A finished report over a full store."""
    job = full_store(tmp_path_factory.mktemp("store")).job()
    write_manifest(job, report.run(job))
    return job


@pytest.fixture(scope="module")
def records(reported):
    """The rows of its results.csv."""
    return list(parse_csv((reported.folder / "results.csv").read_text()))


def test_seeds_are_drawn_with_the_spread_that_few_of_them_hide():
    """Two seeds at 0.4 and 0.6: the variance of their mean is (0.02) / 2, whatever the images."""
    found = draw_seeds(np.tile([[0.4], [0.6]], (1, 40_000)), np.random.default_rng(0))
    assert found.mean() == pytest.approx(0.5, abs=0.003)
    assert found.var() == pytest.approx(0.01, rel=0.03)


def test_a_resampled_accuracy_has_the_binomial_spread():
    rows = (np.arange(400) < 100).astype(float)[None]
    found = resample_accuracies({"a": rows, "b": 1 - rows}, np.random.default_rng(0))
    assert len(found["a"]) == RESAMPLES
    assert found["a"].std() == pytest.approx((0.25 * 0.75 / 400) ** 0.5, rel=0.06)
    assert found["a"] + found["b"] == pytest.approx(np.ones(RESAMPLES))  # on the same images


def test_a_difference_is_paired_by_image():
    """Apart on 10 of 1,000 images, all for the first: McNemar sees it, two intervals do not."""
    first = (np.arange(1000) < 500).astype(float)[None]
    second = (np.arange(1000) < 490).astype(float)[None]
    resampled = resample_accuracies({"a": first, "b": second}, np.random.default_rng(0))
    found = compare_models(first, second, (resampled["a"], resampled["b"]))
    assert found.value == pytest.approx(0.01) and found.p == pytest.approx(2 / 2**10)
    assert 0 < found.low < 0.01 < found.high < 0.02


def test_a_difference_within_the_spread_of_seeds_is_none():
    """By images alone 60 % of 2,000 against 55 % is certain; seeds of 50 and 70 % undo that."""
    shares = {"a": (0.5, 0.7), "b": (0.45, 0.65)}
    correctness = {
        name: np.stack([(np.arange(2000) < 2000 * share).astype(float) for share in both])
        for name, both in shares.items()
    }
    resampled = resample_accuracies(correctness, np.random.default_rng(0))
    found = compare_models(*correctness.values(), (resampled["a"], resampled["b"]))
    assert found.value == pytest.approx(0.05) and found.low < 0 < found.high and found.p > 0.05


def threat(**students):
    """A threat of one seed each."""
    scores = {("student", n): Score((outcome(*right),), ("k",)) for n, right in students.items()}
    return Threat("clean", "On clean images of x", scores)


def test_a_verdict_names_those_that_the_images_cannot_tell_apart():
    good, near, bad = [1] * 60 + [0] * 40, [1] * 58 + [0] * 42, [1] * 10 + [0] * 90
    verdict = judge_threat(threat(good=good, near=near, bad=bad))
    assert verdict.best == "good" and verdict.equals == ["near"]
    assert verdict.differences["bad"].p < 1e-6
    assert judge_threat(threat(alone=good)).differences == {}


def test_five_percent_is_a_difference_as_in_the_table_of_pairs():
    differences = {"at": Difference(0.1, 0.0, 0.2, 0.05), "above": Difference(0.1, 0.0, 0.2, 0.051)}
    assert Verdict(threat(best=[1]), "best", differences, 1).equals == ["above"]


def test_a_long_list_of_names_ends_in_a_count():
    assert list_names("abcd") == "a, b, c and d"
    assert list_names("abcde") == "a, b, c, d and 1 other"
    assert list_names("abcdef") == "a, b, c, d and 2 others"


def test_sentences_say_what_was_measured(reported):
    study = open_study(reported)
    threats = find_threats(study, collect_measurements(study))
    answers = make_answers(study, judge_threats(threats))
    assert [a.heading for a in answers] == [
        "Clean images", "Under attack", "Under shift", "For its cost",
    ]  # fmt: skip
    clean, attack, shift, _ = (answer.sentence for answer in answers)
    assert "dad is right most often: 75.0 % [50.5, 89.8] of 16 images." in clean
    assert "Against kd, there is no difference that 16 images can show." in clean
    assert (
        "the worst of no attack, PGD-20 and AutoAttack at 8/255" in attack
        and "of 4 images" in attack
    )
    assert "mean of 2 corruptions, severity 3" in shift
    brief = (reported.folder / "table.md").read_text()
    assert [answer.sentence in brief for answer in answers] == [True, True, True, False]
    assert "seconds" not in brief  # its bytes are the same on every machine


def test_rows_come_back_from_their_file(reported, records):
    study = open_study(reported)
    rows = [flatten_row(row) for row in make_result_rows(study, collect_measurements(study))]
    assert list(parse_csv(format_csv(rows))) == rows == records
    assert list(records[0]) == list_columns()
    first = records[0]
    assert (first["model"], first["seed"], first["condition"]) == ("kd", 0, "clean")
    assert (first["n"], first["correct"], first["accuracy"]) == (16, 9, 9 / 16)
    assert first["shifted"] is False and first["epoch"] is None and first["corruption"] == ""


def test_pandas_reads_both_files(reported, records):
    results = pd.read_csv(reported.folder / "results.csv")
    outcomes = pd.read_parquet(reported.folder / "outcomes.parquet")
    assert len(results) == len(records)
    right = outcomes.assign(right=outcomes.label == outcomes.prediction)
    right = right[(right.attack == "clean") & (right.model == "dad")].right
    wanted = results[(results.attack == "clean") & (results.model == "dad")].accuracy
    assert right.mean() == wanted.item() == 0.75


def test_means_over_seeds_by_hand(records):
    """kd has 9 and 11 of 16 right: mean 10/16, sd sqrt(2)/16."""
    names = pivot.check_columns(["objective"])
    cell = pivot.pivot(records, names)["kd", "student"]["clean"]
    assert names == ["objective", "role"] and (cell.sections, cell.seeds, cell.n) == (1, 2, 16)
    assert cell.mean == pytest.approx(10 / 16) and cell.sd == pytest.approx(2**0.5 / 16)
    table = format_results(records, ["objective"], "markdown")
    assert "62.5 ±8.8" in table and "AutoAttack at 8/255 (n=4)" in table
    assert "1–2" not in table and "corruptions, severity 3 (n=16)" in table


def test_a_radius_that_rows_are_grouped_by_leaves_the_headings(records):
    table = format_results(records, ["eps"], "markdown")
    head, _, *rows = [[c.strip() for c in line.split("|")[1:-1]] for line in table.splitlines()]
    assert head[:2] == ["eps", "role"] and not [h for h in head if "/255" in h]
    assert [row[0] for row in rows if row[1] == "student"] == ["0", "4/255", "8/255"]


@pytest.mark.parametrize("by", [None, ["objective", "eps"]])
def test_every_format_is_that_format(records, by):
    listed = json.loads(format_results(records, by, "json"))
    lines = format_results(records, by, "csv").splitlines()
    assert len(lines) == len(listed) + 1 and lines[0].split(",") == list(listed[0])
    assert format_results(records, by, "latex").startswith("\\begin{tabular}")
    assert format_results(records, by, "markdown").startswith("| ")


def test_an_unknown_column_is_named(records):
    with pytest.raises(RetortError, match="--by epss: no such column; choose from model, role"):
        format_results(records, ["epss"], "csv")


def test_a_row_s_name_is_a_link_and_its_sources_are_told_on_hover():
    """A name that also stands in the row's markup and in the text on hover."""
    member = SimpleNamespace(manifest=SimpleNamespace(key="0123456789ab", spec={"seed": 0}))
    groups = [ModelGroup("td", "student", (member,), ({},))]
    study = SimpleNamespace(groups=groups, artefacts={}, label_group=lambda group: group.name)
    found = link_artefacts("<tr><td>td</td><td>student</td></tr>", study, {})
    assert found == (
        '<tr title="td: seed 0 0123456789ab; evaluations: none">'
        '<td><a href="#artefact-0123456789ab">td</a></td><td>student</td></tr>'
    )


def test_a_study_of_other_test_sets_alone_has_a_table(tmp_path):
    store = Store(tmp_path)
    counts = {"train": 16, "val": 16, "test": 16}
    for name in ("own", "other"):
        store.add("dataset", name, {}, {}, write_data, {"classes": CLASSES, "counts": counts})
    spec = {"model": "r8", "recipe": RECIPE, "device": "cpu", "objective": {"kd": {}}}
    for name, right in (("a", 12), ("b", 4)):
        store.add("student", f"{name}-0", spec, {"dataset": "dataset/own"}, write_trained)
        store.add(
            "evaluation", f"{name}-0.main", {"shifted": True},
            {"dataset": "dataset/other", "model": f"student/{name}-0"},
            lambda at, right=right: write_outcomes(at, {CLEAN: (right, 16)}),
        )  # fmt: skip
    job = store.job()
    write_manifest(job, report.run(job))
    brief = (job.folder / "table.md").read_text()
    assert "75.0" in brief and "On clean images of other, a is right most often" in brief
    table = format_results(list(parse_csv((job.folder / "results.csv").read_text())), None, "latex")
    assert "clean on other (n=16)" in table and "75.0 [50.5, 89.8]" in table


def test_a_teacher_and_a_student_of_one_name_have_rows_of_their_own(tmp_path):
    """A student's seeds need not begin at 0."""
    store = Store(tmp_path)
    counts = {"train": 16, "val": 16, "test": 16}
    for name in ("own", "other"):
        store.add("dataset", name, {}, {}, write_data, {"classes": CLASSES, "counts": counts})
    spec = {"model": "r8", "recipe": RECIPE, "device": "cpu", "objective": {"kd": {}}}
    for ref, right in (("teacher/kd", 12), ("student/kd-3", 4), ("student/alone-3", 8)):
        kind, _, name = ref.partition("/")
        store.add(kind, name, spec, {"dataset": "dataset/own"}, write_trained)
        store.add(
            "evaluation", f"{name}.main", {"shifted": True},
            {"dataset": "dataset/other", "model": ref},
            lambda at, right=right: write_outcomes(at, {CLEAN: (right, 16)}),
        )  # fmt: skip
    study = open_study(store.job())
    assert collect_shift_facts(study, "kd") == {
        "kd": {"other": 25}, "alone": {"other": 50}, "kd (teacher)": {"other": 75},
    }  # fmt: skip
    assert study.find_group("kd").kind == "teacher"
    keys = {label: ref.partition("/")[2] for label, ref in study.refs_by_name.items()}
    linked = link_artefacts("<tr><td>kd (teacher)</td></tr><tr><td>kd</td></tr>", study, {})
    assert linked.index(keys["teacher/kd"]) < linked.index(keys["student/kd-3"])
    assert study.find_group("alone").members[0].manifest.name == "alone-3"
