"""Statistics of outcomes against numbers by hand: pairs, families, calibration, worst case."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.outcomes import ModelGroup, Outcome
from pipeline.report.statistics import calibration, paired, resampling, sections, worst_case
from tests.helpers.points import CLEAN, EPS, corrupted, pgd

USUAL = worst_case.Radius()


def outcome(*right: int, start: int = 0, confidence: list[float] | None = None) -> Outcome:
    sure = None if confidence is None else np.float64(confidence)
    return Outcome(np.arange(start, start + len(right)), np.float64(right), sure)


def group(name: str, *members: dict) -> ModelGroup:
    about = SimpleNamespace(manifest=SimpleNamespace(kind="student"))
    return ModelGroup(name, "student", (about,) * len(members), tuple(members))


def test_mcnemar_by_hand():
    assert resampling.mcnemar_test(0, 0) == 1
    assert resampling.mcnemar_test(5, 0) == pytest.approx(2 / 2**5)
    assert resampling.mcnemar_test(1, 4) == pytest.approx(2 * (1 + 5) / 2**5)
    assert resampling.mcnemar_test(3, 3) == pytest.approx(1)
    assert resampling.mcnemar_test(5, 1) == pytest.approx(2 * 7 / 64)  # P(5 or 6 of 6) = 7/64


def test_holm_by_hand():
    assert resampling.correct_by_holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert resampling.correct_by_holm([0.5, 0.6]) == pytest.approx([1.0, 1.0])
    assert resampling.correct_by_holm([]) == []


def test_a_pair_of_single_seeds_counts_discordant_images():
    a, b = outcome(*[1] * 8, *[0] * 2, start=2), outcome(*[1] * 2, *[0] * 10)
    (pair,) = paired.compare_outcomes({"a": [a], "b": [b]})  # images 2 to 11 are common
    assert (pair.images, pair.first_only, pair.second_only) == (10, 8, 0)
    assert pair.difference.value == pytest.approx(0.8)
    assert pair.p_value == pair.adjusted_p_value == pytest.approx(2 / 2**8)
    assert pair.is_significant
    # of 10 resampled images, the number that differ is binomial with share 0.8
    assert 0.4 <= pair.difference.low <= 0.6 and pair.difference.high == pytest.approx(1)


def test_the_interval_is_that_of_a_normal_where_images_are_many():
    rng = np.random.default_rng(0)
    a, b = (outcome(*(rng.random(5000) < share)) for share in (0.6, 0.5))
    (pair,) = paired.compare_outcomes({"a": [a], "b": [b]})
    deviation = np.std(a.correctness - b.correctness) / 5000**0.5
    assert pair.difference.half_width == pytest.approx(1.96 * deviation, rel=0.06)


def test_seeds_are_the_outer_level():
    """Seeds that differ by much more than images do make the interval as wide as they are."""
    good, poor = outcome(*[1] * 100), outcome(*[0] * 100)
    half = outcome(*[1, 0] * 50)
    (pair,) = paired.compare_outcomes({"a": [good, poor], "b": [half, half]})
    assert pair.difference.value == 0 and pair.first_only is None and not pair.is_significant
    assert pair.difference.low < -0.45 and pair.difference.high > 0.45


def test_pairs_of_groups_are_one_family():
    a, b, c = (group(n, {CLEAN: outcome(*r)}) for n, r in zip("abc", ROWS, strict=True))
    other = group("d", {pgd(20, EPS): outcome(1)})
    pairs = sections.compare_students([a, b, c, other], USUAL)["clean"]
    assert [(p.first, p.second) for p in pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert pairs[0].p_value == pytest.approx(2 / 2**6)
    assert pairs[0].adjusted_p_value == pytest.approx(3 * 2 / 2**6)
    assert sections.compare_students([a], USUAL) == {}
    assert paired.compare_outcomes({"a": [outcome(1)]}) == []
    with pytest.raises(ValueError, match="no image in common"):
        paired.compare_outcomes({"a": [outcome(1)], "b": [outcome(1, start=5)]})


ROWS = ([1] * 6, [0] * 6, [1, 1, 1, 0, 0, 0])


def test_fifty_models_are_compared_in_seconds():
    rng = np.random.default_rng(1)
    models = {str(i): [outcome(*(rng.random(2000) < 0.5))] for i in range(50)}
    pairs = paired.compare_outcomes(models)
    assert len(pairs) == 1225 and not any(p.is_significant for p in pairs)


def test_calibration_by_hand():
    # bins of a fifteenth: 0.95 and 1.0 in the last, 0.5 alone in the eighth
    confidence, right = np.float64([0.95, 1.0, 0.5]), np.float64([1, 0, 1])
    expected = (abs(1 + 0 - 1.95) + abs(1 - 0.5)) / 3
    assert calibration.compute_calibration_error(confidence, right) == pytest.approx(expected)
    one_bin = abs(2 - 2.45) / 3
    assert calibration.compute_calibration_error(confidence, right, 1) == pytest.approx(one_bin)
    ends = np.float64([0, 1 / 15, 2 / 15])  # the first two share a bin
    found = calibration.compute_calibration_error(ends, np.float64([1, 0, 0]))
    assert found == pytest.approx((abs(1 - 1 / 15) + 2 / 15) / 3)


def test_calibration_agrees_with_torchmetrics():
    import torch
    from torchmetrics.functional.classification import binary_calibration_error

    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.1, 1, 500)
    right = (rng.random(500) < confidence**2).astype(float)
    theirs = binary_calibration_error(torch.tensor(confidence), torch.tensor(right), n_bins=15)
    ours = calibration.compute_calibration_error(confidence, right)
    assert ours == pytest.approx(theirs.item(), abs=1e-6)
    interval = calibration.estimate_calibration_error(Outcome(np.arange(500), right, confidence))
    assert interval.low < interval.value == ours < interval.high
    assert 0.04 < interval.high - interval.low < 0.12


def test_calibration_of_a_group_needs_confidences():
    sure = {CLEAN: outcome(1, 0, confidence=[0.9, 0.9])}
    assert calibration.estimate_group_calibration(group("a", sure)).value == pytest.approx(0.4)
    assert calibration.estimate_group_calibration(group("a", sure, sure)).half_width == 0
    assert calibration.estimate_group_calibration(group("a", {CLEAN: outcome(1, 0)})) is None
    assert calibration.estimate_group_calibration(group("a", {pgd(1, EPS): outcome(1)})) is None


def test_the_worst_case_is_that_of_each_image():
    outcomes = {
        CLEAN: outcome(1, 1, 1, 0),
        pgd(20, EPS): outcome(1, 0, 1, 1),
        AttackPoint("autoattack", EPS): outcome(1, 1, 0),  # on three images
        AttackPoint("square", EPS, surrogate="t"): outcome(1, 1, 1, 1),
        AttackPoint("fgsm", 2 * EPS): outcome(0, 0, 0, 0),
        AttackPoint("cw_l2", EPS): outcome(0, 0, 0, 0),
        corrupted("fog"): outcome(0, 0, 0, 0),
    }
    worst = worst_case.find_worst_case(outcomes, USUAL)
    assert worst.index.tolist() == [0, 1, 2] and worst.correctness.tolist() == [1, 0, 0]
    interval, n = worst_case.estimate_worst_case(group("a", outcomes), USUAL)
    assert (interval.value, n) == (pytest.approx(1 / 3), 3)
    assert worst_case.find_worst_case({CLEAN: outcome(1)}, USUAL) is None
    assert worst_case.estimate_worst_case(group("a", {CLEAN: outcome(1)}), USUAL) is None
    several = group("a", outcomes, {**outcomes, pgd(20, EPS): outcome(1, 1, 1, 1)})
    assert worst_case.estimate_worst_case(several, USUAL)[0].value == pytest.approx(0.5)


def test_the_gap_to_autoattack_by_hand():
    outcomes = {
        CLEAN: outcome(1, 1, 1, 1, 1),
        AttackPoint("autoattack", EPS): outcome(1, 1, 1, 0),  # on four images
        pgd(100, EPS): outcome(1, 1, 1, 1, 1),
        AttackPoint("square", EPS): outcome(0, 1, 1, 1, 0),
    }
    gap = worst_case.measure_autoattack_gap(outcomes, USUAL)
    assert (gap.autoattack, gap.others, gap.together) == (0.75, 0.75, 0.5)
    assert (gap.gap, gap.images, gap.attacks) == (0.25, 4, 2)
    alone = {CLEAN: outcome(1), pgd(1, EPS): outcome(1)}
    assert worst_case.measure_autoattack_gap(alone, USUAL) is None


def test_the_tables_have_every_radius_the_worst_case_and_the_pairs():
    curve = {CLEAN: outcome(*[1] * 8, confidence=[1.0] * 8)}
    curve |= {pgd(20, e / 255): outcome(*[1] * n, *[0] * (8 - n)) for e, n in ((4, 6), (8, 4))}
    other = {point: outcome(*[0] * 8, confidence=[0.5] * 8) for point in curve}
    groups = [group("a", curve), group("b", other)]
    head, _, first, second = sections.format_radius_table(groups).splitlines()
    assert "PGD-20 at 4/255" in head and "PGD-20 at 8/255" in head
    assert "75.0 [" in first and "50.0 [" in first and second.count("0.0 [") == 2
    worst = sections.format_worst_table(groups, USUAL)
    assert "50.0 [21.5, 78.5]" in worst and "0.0 [0.0, 0.0]" in worst  # Wilson; ECE of 0
    pairs = sections.compare_students(groups, USUAL)
    assert list(pairs) == ["clean", "worst case at 8/255"]
    table = sections.format_pair_table(pairs["clean"])
    assert "a – b" in table and "+100.0 [+100.0, +100.0]" in table and "0.0078" in table
    assert sections.format_radius_table([group("a", {CLEAN: outcome(1)})]) == ""
    assert sections.format_worst_table([group("a", {CLEAN: outcome(1)})], USUAL) == ""


def test_a_study_at_another_radius_has_its_worst_case_and_pairs():
    strong = {CLEAN: outcome(*[1] * 8), pgd(20, 4 / 255): outcome(*[1] * 6, 0, 0)}
    strong |= {pgd(20, 2 / 255): outcome(*[0] * 8), corrupted("fog"): outcome(*[0] * 8)}
    weak = {point: outcome(*[0] * 8) for point in strong}
    groups = [group("a", strong), group("b", weak)]
    radius = worst_case.choose_radius(worst_case.list_radii(strong))
    assert radius == worst_case.Radius(round(4 / 255, 9)) and str(radius) == "4/255"
    assert "75.0 [" in sections.format_worst_table(groups, radius)
    pairs = sections.compare_students(groups, radius)["worst case at 4/255"]
    assert [p.difference.value for p in pairs] == [0.75]
    assert worst_case.choose_radius(worst_case.list_radii([*strong, pgd(20, EPS)])) == USUAL
    assert worst_case.choose_radius(worst_case.list_radii([CLEAN])) == USUAL


def test_pairs_take_the_attacks_that_all_students_met_in_all_seeds():
    strong = AttackPoint("autoattack", EPS)
    seed = {CLEAN: outcome(1, 1, 1, 1), pgd(20, EPS): outcome(1, 1, 1, 0)}
    thorough = {**seed, strong: outcome(0, 0, 0, 0)}
    groups = [
        group("a", thorough, seed),
        group("b", thorough, thorough),
        group("c", {CLEAN: outcome(1)}),
    ]
    (pair,) = sections.compare_students(groups, USUAL)["worst case at 8/255"]
    assert (pair.first, pair.second, pair.difference.value) == ("a", "b", 0)
    both = [group("a", thorough), group("b", {**seed, strong: outcome(1, 1, 0, 0)})]
    (pair,) = sections.compare_students(both, USUAL)["worst case at 8/255"]
    assert pair.difference.value == -0.5


def test_the_radius_of_a_study_is_one_that_all_attacked_students_met():
    near = {CLEAN: outcome(1), pgd(20, 4 / 255): outcome(1)}
    both = {**near, pgd(20, EPS): outcome(1)}
    teacher = ModelGroup("t", "teacher", group("t", both).members, (both,))
    students = [group("a", near), group("b", both), group("c", {CLEAN: outcome(1)})]
    at_4, at_12 = (worst_case.Radius(round(eps / 255, 9)) for eps in (4, 12))
    assert worst_case.find_shared_radius([*students, teacher]) == at_4
    assert worst_case.find_shared_radius([group("b", both), teacher]) == USUAL
    assert worst_case.find_shared_radius([teacher]) == USUAL
    other = group("d", {**near, pgd(10, EPS): outcome(1)})  # another attack, the same radius
    assert worst_case.find_shared_radius([students[1], other]) == USUAL
    far = group("e", {CLEAN: outcome(1), pgd(20, 12 / 255): outcome(1)})
    assert worst_case.find_shared_radius([students[0], far]) == at_12
    assert worst_case.find_shared_radius([]) == USUAL
