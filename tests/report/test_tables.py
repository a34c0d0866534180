"""The report's intervals, tables and doubts about robust accuracies."""

from dataclasses import replace
from fractions import Fraction
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pipeline.core.attack_protocol import AttackPoint
from pipeline.core.seeding import make_generator
from pipeline.report import outcomes, sanity_checks
from pipeline.report.epoch_table import collect_epoch_outcomes
from pipeline.report.outcomes import ModelGroup, Outcome, Study, align_outcomes, average_outcomes
from pipeline.report.papers.models import find_surrogates
from pipeline.report.sanity_checks import Suspicion, find_doubts
from pipeline.report.statistics.intervals import (
    bootstrap_interval,
    sign_test,
    student_t_interval,
    wilson_interval,
)
from pipeline.report.tables import (
    format_cell,
    format_corruption_table,
    format_markdown_table,
    format_results_table,
    list_equal_costs,
    make_columns,
)
from pipeline.store.artefact import Artefact, Manifest
from tests.helpers.points import CLEAN, EPS, corrupted, pgd
from tests.helpers.specs import completed


def outcome(right, start=0):
    """An outcome on the images start, start + 1, …"""
    right = np.array(right, float)
    return Outcome(np.arange(start, start + len(right)), right)


def of(n, right):
    """An outcome on n images, of which the first ``right`` are classified correctly."""
    return outcome([1.0] * right + [0.0] * (n - right))


def group(name, *outcomes, kind="student", spec=None):
    """A table's row without anything on disk."""
    manifest = Manifest(kind, name, "k", completed(kind, spec or {}), {}, {}, {}, {})
    return ModelGroup(name, kind, (Artefact(Path(name), manifest),) * len(outcomes), outcomes)


def test_wilson_interval_by_hand():
    interval = wilson_interval(0.5, 10)  # Wilson's textbook case: 5 of 10
    assert (interval.low, interval.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson_interval(0.0, 20).low == 0 and wilson_interval(0.0, 20).high == pytest.approx(
        0.1611, abs=1e-4
    )


@given(st.floats(0, 1), st.integers(1, 10**6))
def test_wilson_interval_holds_its_value_and_stays_in_range(share, n):
    interval = wilson_interval(share, n)
    assert 0 <= interval.low <= share <= interval.high <= 1


@pytest.mark.parametrize("n", [1, 2, 3, 10, 97, 1000, 10_000])
def test_wilson_interval_is_scipys_for_whole_numbers(n):
    for right in {0, 1, n // 3, n // 2, n - 1, n}:
        interval = wilson_interval(right / n, n)
        expected = binomtest(right, n).proportion_ci(method="wilson")
        assert (interval.low, interval.high) == pytest.approx(expected, abs=1e-12, rel=0)


def test_interval_over_seeds_by_hand():
    interval = student_t_interval([0.1, 0.2, 0.3])  # sd 0.1, t(2) = 4.3027
    assert interval.value == pytest.approx(0.2)
    assert interval.half_width == pytest.approx(4.3027 * 0.1 / 3**0.5, abs=1e-4)


def test_bootstrap_repeats_and_agrees_with_the_normal_interval():
    values = np.repeat([1.0, 0.0, -1.0], [100, 250, 50])
    one, two = (bootstrap_interval(values, make_generator("b")) for _ in range(2))
    half = 1.96 * values.std() / 20
    assert one == two and one.value == 0.125
    assert (one.low, one.high) == pytest.approx((0.125 - half, 0.125 + half), abs=0.01)


def test_sign_test_by_hand():
    assert sign_test(3, 0) == pytest.approx(1 / 8) and sign_test(0, 5) == 1
    assert sign_test(2, 1) == pytest.approx(0.5)
    assert sign_test(0, 0) == 1


@pytest.mark.parametrize(("wins", "pairs"), [(7, 10), (25, 40), (200, 390), (5100, 10_000)])
def test_sign_test_equals_the_exact_sum(wins, pairs):
    exact = Fraction(sum(comb(pairs, k) for k in range(wins, pairs + 1)), 2**pairs)
    assert sign_test(wins, pairs - wins) == pytest.approx(float(exact), abs=1e-12, rel=0)


def test_pairs_are_made_on_common_images():
    one, two = align_outcomes(outcome([1, 0, 1, 1]), outcome([0, 1, 0], start=2))
    assert one.index.tolist() == two.index.tolist() == [2, 3]
    assert one.correctness.tolist() == [1, 1] and two.correctness.tolist() == [0, 1]
    assert average_outcomes([outcome([1, 0]), outcome([1, 1, 1])]).correctness.tolist() == [1, 0.5]


def test_columns_come_from_the_attacks():
    points = [
        CLEAN,
        pgd(20, 0.0),
        pgd(20, EPS),
        AttackPoint("fgsm", 2 / 255),
        AttackPoint("cw_linf", EPS),
    ]
    points += [corrupted("fog"), corrupted("gaussian_noise")]
    row = group("a", dict.fromkeys(points, of(20, 5)) | {AttackPoint("autoattack", EPS): of(10, 1)})
    assert [column.full_heading for column in make_columns([row])] == [
        "clean", "FGSM (eps 2/255)", "PGD-20", "CW (Linf)", "AutoAttack (first 10)",
        "corruptions (mean of 2, severity 3)",
    ]  # fmt: skip
    assert "gaussian noise" in format_corruption_table([row])


def test_cells_say_which_interval_they_hold():
    (column,) = make_columns([group("a", {CLEAN: of(10, 5)})])
    assert format_cell(group("a", {CLEAN: of(10, 5)}), column) == "50.0 [23.7, 76.3]"
    seeds = group("a", {CLEAN: of(10, 5)}, {CLEAN: of(10, 7)})
    assert format_cell(seeds, column) == "60.0 ±127.1"
    assert format_cell(group("b", {AttackPoint("fgsm", EPS): of(10, 5)}), column) == "–"
    assert "teachers and banks fixed" in format_results_table([seeds], brief=True)


def test_intervals_over_warm_ups_say_so():
    def seeds(kind, **inputs):
        made = [
            Manifest(kind, "a", f"k{s}", {}, {n: f"{v}{s}" for n, v in inputs.items()}, {}, {}, {})
            for s in range(2)
        ]
        members = tuple(Artefact(Path("a"), manifest) for manifest in made)
        return ModelGroup("a", "student", members, ({CLEAN: of(10, 5)},) * 2)

    fixed = group("b", *[{CLEAN: of(10, 5)}] * 2)
    for row in (seeds("student", generator="generator/g"), seeds("generator")):
        assert "over student seeds and their warm-ups," in format_results_table([row], brief=True)
    for row in (seeds("student"), fixed):
        assert "over student seeds, teachers" in format_results_table([row], brief=True)


def test_tables_are_aligned_and_escaped():
    lines = format_markdown_table(["name", "n"], [["a|<b>", 10], ["c", 2]]).splitlines()
    assert lines[2] == "| a&#124;&lt;b> |  10 |" and len({len(line) for line in lines}) == 1


def test_equal_costs_are_named():
    assert list_equal_costs((10, 100, 2000), (10, 50, 1000)) == "epochs"
    assert list_equal_costs((10, 100, 2000), (20, 110, 2000)) == "CPU-seconds, samples"


ODD = {
    "under FGSM at 8/255, more than 25.0 % under clean": {
        CLEAN: of(20, 5), AttackPoint("fgsm", EPS): of(20, 15)},
    "under PGD-20 at 8/255, more than 25.0 % under FGSM": {
        AttackPoint("fgsm", EPS): of(20, 5), pgd(20, EPS): of(20, 15)},
    "under PGD-20 at 8/255, more than 25.0 % under PGD-10": {
        pgd(10, EPS): of(20, 5), pgd(20, EPS): of(20, 15)},
    "80.0 % under AutoAttack at 8/255, more than 50.0 % under PGD-20 at 8/255 (10 images": {
        pgd(20, EPS): of(20, 5), AttackPoint("autoattack", EPS): of(10, 8)},
    "0.0 % under AutoAttack at 8/255, far below 50.0 % under PGD-20": {
        pgd(20, EPS): of(20, 5), AttackPoint("autoattack", EPS): of(10, 0)},
    "75.0 % under PGD-20 at 8/255, more than 25.0 % under PGD-20 from t at 8/255": {
        pgd(20, EPS): of(20, 15), replace(pgd(20, EPS), surrogate="t"): of(20, 5)},
    "under PGD-20 at 8/255, more than 25.0 % under PGD-20 at 4/255": {
        pgd(20, 4 / 255): of(20, 5), pgd(20, EPS): of(20, 15)},
}  # fmt: skip


@pytest.mark.parametrize("expected", ODD)
def test_each_doubt_is_found(expected):
    (doubt,) = find_doubts(ODD[expected])
    assert expected in doubt.text


def test_sound_outcomes_raise_no_doubt_and_chance_is_called_chance():
    sound = {CLEAN: of(20, 12), AttackPoint("fgsm", EPS): of(20, 6), pgd(20, EPS): of(20, 5)}
    assert find_doubts(sound | {AttackPoint("autoattack", EPS): of(20, 4)}) == []
    (doubt,) = find_doubts(sound | {pgd(20, EPS): of(20, 7)})
    assert doubt.text.endswith("(20 images; it may be chance, p = 0.50)")


def test_a_doubt_that_may_be_chance_marks_no_row(monkeypatch):
    (slight,) = find_doubts({AttackPoint("fgsm", EPS): of(20, 6), pgd(20, EPS): of(20, 7)})
    (grave,) = find_doubts({pgd(20, EPS): of(20, 5), AttackPoint("autoattack", EPS): of(10, 0)})
    doubts = [
        Suspicion(name, "student", f"{name}-0", doubt)
        for name, doubt in (("a", slight), ("b", slight), ("b", grave), ("c", grave))
    ]
    monkeypatch.setattr(sanity_checks, "find_suspicions", lambda study: doubts)
    assert sanity_checks.list_suspicious_rows(None) == {("student", "b"), ("student", "c")}


def test_a_table_of_epochs_calls_a_surrogate_by_its_name(monkeypatch):
    """A file of outcomes has the surrogate's key."""
    transferred = AttackPoint("square", EPS, surrogate="0a1b")
    monkeypatch.setattr(outcomes, "read_outcomes", lambda path: {transferred: of(4, 1)})
    monkeypatch.setattr(Artefact, "get_verified_path", lambda self, name: Path(name))
    spec = completed("evaluation", {"attacks": [{"clean": {}}], "epoch": 2})
    manifest = Manifest("evaluation", "kd-0@2.x", "e", spec, {"model": "m"}, {}, {}, {})
    names = {"evaluation/kd-0@2.x": "evaluation/e", "teacher/robust": "teacher/0a1b"}
    study = Study({"evaluation/e": Artefact(Path("e"), manifest)}, names)
    ((point,),) = collect_epoch_outcomes(study).values()
    assert point.surrogate == "robust"


def test_a_teacher_and_a_seed_of_one_name_are_two_surrogates(monkeypatch):
    keys = {"s.parquet": "0a", "t.parquet": "0b"}
    monkeypatch.setattr(
        outcomes,
        "read_outcomes",
        lambda path: {AttackPoint("square", EPS, surrogate=keys[path.name]): of(4, 1)},
    )
    monkeypatch.setattr(Artefact, "get_verified_path", lambda self, name: self.folder)
    spec = completed("evaluation", {"attacks": [{"clean": {}}]})
    names = {"student/kd-0": "student/0a", "teacher/kd-0": "teacher/0b"}
    artefacts = {}
    for place, kind, key in (("s", "student", "0a"), ("t", "teacher", "0b")):
        made = Manifest("evaluation", f"x.{place}", f"e{place}", spec, {"model": "m"}, {}, {}, {})
        names[f"evaluation/x.{place}"] = f"evaluation/e{place}"
        artefacts[f"evaluation/e{place}"] = Artefact(Path(f"{place}.parquet"), made)
        network = completed(kind, {"model": f"resnet{key}"})
        model = Manifest(kind, "kd-0", key, network, {}, {}, {}, {})
        artefacts[f"{kind}/{key}"] = Artefact(Path(key), model)
    study = Study(artefacts, names)
    found = {point.surrogate for point in study.outcomes_by_model["m"]}
    assert found == {"kd-0", "kd-0 (teacher)"}
    assert find_surrogates(study) == {"kd-0": "resnet0a", "kd-0 (teacher)": "resnet0b"}
