"""What a printed column measures on one of our models, by hand."""

import numpy as np
import pytest

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.boundary_table import BoundaryRisks
from pipeline.report.distribution_shift import ALEXNET_ERRORS
from pipeline.report.outcomes import Outcome
from pipeline.report.papers.comparison import has_printed_teachers
from pipeline.report.papers.differences import describe_teachers
from pipeline.report.papers.methods import find_rule
from pipeline.report.papers.metrics import ColumnQuery, Measurements, measure
from pipeline.report.papers.networks import is_family, is_network, list_printed_teachers
from pipeline.report.papers.printed import RowIdentity
from pipeline.report.papers.settings import Setting, TeacherSetting
from tests.helpers.points import CLEAN, EPS, pgd

SURROGATES = {"rn34": "resnet34", "vgg": "vgg16-bn"}


def of(right, n=10):
    """An outcome on n images, of which the first ``right`` are classified correctly."""
    return Outcome(np.arange(n), np.array([1.0] * right + [0.0] * (n - right)))


def measured(*outcomes, shifted=({},), risks=({},)):
    """Measurements of as many seeds as there are outcomes."""
    return Measurements(outcomes, shifted, risks, SURROGATES)


def value(found, metric, dataset="cifar10", **query):
    """The measured value of a column; None if it was not measured."""
    score = measure(found, ColumnQuery(metric, dataset, **query))
    return None if score is None else score.value


def test_attacks_are_told_apart_by_steps_start_and_surrogate():
    points = {
        CLEAN: of(9),
        AttackPoint("fgsm", EPS): of(8),
        AttackPoint("fgsm", EPS, surrogate="rn34"): of(7),
        pgd(10, EPS): of(6),
        pgd(20, EPS): of(5),
        pgd(10, EPS, start="gauss", step=0.003): of(4),
        pgd(10, EPS, start="gauss"): of(3),
        AttackPoint("jsma_true", surrogate="vgg"): of(2),
        AttackPoint("jsma", surrogate="vgg"): of(1),  # to a random class: in no column
        AttackPoint("jsma", surrogate="rn34"): of(1),
    }
    found = measured(points)
    asked = ("clean", "fgsm", "fgsm_transfer_rn34", "pgd10", "pgd20", "pgd_s", "pgd_t")
    assert [value(found, name) for name in asked] == [90, 80, 70, 60, 50, 60, 30]
    assert value(found, "jsma_transfer_vgg16") == 20
    for name in ("jsma_transfer_rn34", "fgsm_transfer_vgg16", "jsma", "aa", "budget"):
        assert value(found, name) is None, name


def test_only_the_asked_radius_counts():
    found = measured({pgd(10, EPS): of(6), pgd(10, 0.03): of(7)})
    assert value(found, "pgd_s") == 60
    assert value(found, "pgd_s", radius=0.03) == 70
    assert value(found, "pgd_s", radius=4 / 255) is None


def test_quoted_values_are_of_twenty_steps():
    found = measured({pgd(10, EPS): of(6), pgd(20, EPS): of(5), pgd(10, EPS, start="gauss"): of(4)})
    assert value(found, "pgd_s", is_quoted=True) == 50
    assert value(found, "pgd_t", is_quoted=True) == 40
    assert value(measured({pgd(10, EPS): of(6)}), "pgd_s", is_quoted=True) is None
    points = {a: of(9) for a in (CLEAN, AttackPoint("fgsm", EPS), AttackPoint("autoattack", EPS))}
    points |= {AttackPoint("cw_linf", EPS): of(9), pgd(10, EPS, start="gauss"): of(9)}
    points |= {pgd(10, EPS): of(9), pgd(20, EPS): of(3)}
    assert value(measured(points), "avg") == 90
    assert value(measured(points), "avg", is_quoted=True) == pytest.approx((5 * 90 + 30) / 6)


def test_a_column_that_one_seed_lacks_is_not_measured():
    found = measured({CLEAN: of(4), pgd(10, EPS): of(2)}, {CLEAN: of(6)}, shifted=({}, {}))
    score = measure(found, ColumnQuery("clean", "cifar10"))
    assert (score.value, score.seed_count) == (50, 2)
    assert score.high - 50 == pytest.approx(
        12.706 * 10, abs=0.01
    )  # t(1) times 20 / sqrt(2) / sqrt(2)
    assert value(found, "pgd10") is None


def test_means_over_test_sets_by_hand():
    shifted = {"imagenet-v2": {CLEAN: of(6)}, "imagenet-r": {CLEAN: of(4)}}
    shifted |= {"imagenet-sketch": {CLEAN: of(2)}, "imagenet-a": {CLEAN: of(0)}}
    found = measured({CLEAN: of(8)}, shifted=(shifted,))
    assert value(found, "avg", "imagenet-natural") == pytest.approx(20)
    assert value(found, "avg", "imagenet-id") == pytest.approx(70)
    assert value(found, "avg", "imagenet-all5") == pytest.approx(40)
    assert value(found, "avg", "imagenet-all7") is None
    corrupted = {
        AttackPoint("clean", corruption=name, severity=severity): of(10)
        for name in ALEXNET_ERRORS
        for severity in range(1, 6)
    }
    shifted |= {"imagenet-c": corrupted, "stylized": {CLEAN: of(1)}}
    whole = measured({CLEAN: of(8)}, shifted=(shifted,))
    assert value(whole, "c_mce", "imagenet-c") == 0  # no error: 100 in the mean
    assert value(whole, "avg", "imagenet-all7") == pytest.approx((80 + 60 + 100 + 10 + 40 + 20) / 7)


def test_derd_s_mean_is_of_clean_and_five_attacks():
    points = {CLEAN: of(9), pgd(10, EPS): of(6), pgd(10, EPS, start="gauss"): of(5)}
    points |= {AttackPoint(name, EPS): of(4) for name in ("fgsm", "cw_linf", "autoattack")}
    assert value(measured(points), "avg") == pytest.approx((90 + 60 + 50 + 3 * 40) / 6)


def test_boundary_risks_are_of_the_asked_epoch():
    found = measured({}, risks=({20: BoundaryRisks(0.3, 0.2, 0.6, 50)},))
    assert value(found, "tau_bdy", epoch=20) == pytest.approx(0.4)
    assert value(found, "r_nat", epoch=20) == 0.3
    assert value(found, "delta", epoch=20) == pytest.approx(0.1)
    assert value(found, "delta", epoch=40) is None


def taught(**teachers):
    """A student's setting with teachers of these networks, by role."""
    known = {role: TeacherSetting(model, "pgd_at") for role, model in teachers.items()}
    names = frozenset(("cifar10",))
    return Setting("student", names, names, "resnet18", known, "derd", {}, 1)


def test_printed_networks_and_teachers_are_ours():
    assert is_network("ViT-B/16", "timm/vit_base_patch16_224+drop_path=0.25")
    assert not is_network("RN-18", "resnet8-s2-w16") and is_family("RN-18", "resnet8-s2-w16")
    assert not is_family("RN-18", "3-layers")  # one of the user's own
    assert not is_family("MN-V2", "resnet18") and is_family("ViT-S", "vit-base-p4")
    pair = "T_nat RN34 + T_rob WRN3420"
    assert list_printed_teachers(pair) == {"natural": "RN34", "robust": "WRN3420"}
    assert has_printed_teachers(pair, taught(natural="resnet34", robust="wrn-34-20"))
    assert not has_printed_teachers(pair, taught(natural="resnet34", robust="resnet34"))
    assert has_printed_teachers("WRN-34-10", taught(teacher="wrn-34-10"))
    assert not has_printed_teachers("WRN-34-10", taught())
    assert not has_printed_teachers("ViT-B + DAT", taught(teacher="vit-base-p4"))


def test_a_student_of_drvit_is_told_by_its_teacher_s_name():
    """No package has DrViT-S, so its network may be anyone's; it must be from a file."""

    def student(name: str, objective: str = "") -> Setting:
        teachers = {"teacher": TeacherSetting("own-vit", objective, name)}
        names = frozenset(("imagenet",))
        return Setting("student", names, names, "timm/resnet50", teachers, "kd", {}, 1)

    assert has_printed_teachers("DrViT-S", student("drvit-s"))
    assert has_printed_teachers("DrViT-S", student("drvit"))
    assert not has_printed_teachers("DrViT-S", student("drvits"))
    assert not has_printed_teachers("DrViT-S", student("drvit-s", "natural"))
    row = RowIdentity("imagenet", "DrViT-S", "RN50", "KD")
    assert describe_teachers(row, student("drvit-s")) == ["teacher drvit-s (own-vit) from a file"]
    assert describe_teachers(row, student("vit")) == ["teacher own-vit in place of DrViT-S"]
    assert find_rule("dad", "9", row).objectives == ("kd",)
    assert find_rule("dad", "1", RowIdentity("imagenet", "", "ViT-B/16", "DrViT")) is None


def test_published_weights_stand_in_the_rows_of_methods_that_are_not_trained_here():
    row = RowIdentity("imagenet", "", "ViT-B/16", "Advprop")
    sets = frozenset({"imagenet"})
    rule = find_rule("dad", "1", row)

    def fits(kind: str, objective: str, name: str) -> bool:
        model = Setting(kind, sets, sets, "vit-b", {}, objective, {}, None, name=name)
        return rule.fits(model, row)

    assert fits("teacher", "", "advprop") and fits("teacher", "", "advprop-vitb")
    assert not fits("teacher", "", "advpropper") and not fits("teacher", "", "fast-advprop")
    assert not fits("teacher", "natural", "advprop") and not fits("student", "", "advprop")
