"""Attack points: every attack's own settings, and the words for them in a report."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.attacks import boundary_risk, corruptions, fgsm, pgd
from pipeline.core.attack_protocol import AttackPoint
from pipeline.discovery import list_plugin_names
from pipeline.report.attack_labels import format_attack, format_attack_at, format_plain_attack
from pipeline.report.attack_points import rank_by_columns, rank_by_strength
from pipeline.trials.attack import check_point, check_points
from tests.attacks.test_every_attack import samples, small_net
from tests.helpers.points import corrupted, on_path
from tests.helpers.points import pgd as pgd_point

UNUSUAL = (
    (pgd.Attack(eps=(0.0, 0.01), steps=2, step=0.002, restarts=2, start="gauss"), "pgd"),
    (fgsm.Attack(eps=(0.0, 0.01, 0.02)), "fgsm"),
    (boundary_risk.Attack(eps=0.01, step=0.005, steps=3, probe=2), "boundary_risk"),
    (corruptions.Attack(names=("fog", "snow"), severity=5), "corruptions"),
)


NEEDS_FILE = ("from_file",)  # tested in test_from_file.py


@pytest.mark.parametrize("name", sorted({*list_plugin_names("attacks")} - {*NEEDS_FILE}))
def test_every_attack_states_its_own_settings(name):
    classes, size = (4, 8) if name != "corruptions" else (4, 32)
    options = {"steps": 3} if name == "cw_l2" else {}
    options |= {"queries": 5} if name == "square" else {}
    check_points(name, options, classes, size)


@pytest.mark.parametrize(("attack", "name"), UNUSUAL)
def test_settings_that_are_not_the_usual_ones_are_stated_too(attack, name):
    net = small_net()
    found = attack(net, *samples(net, 2), 0)
    for point in found:
        check_point(attack, name, point)
    counts = {"pgd": 2, "fgsm": 3, "boundary_risk": 6, "corruptions": 2}
    assert len(found) == counts[name]


def test_pgd_s_settings_are_all_stated():
    net = small_net()
    (point,) = pgd.Attack(eps=0.01, steps=2)(net, *samples(net, 2), 0)
    assert point == pgd_point(2, 0.01)
    assert on_path(1, 4, eps=0.01) in boundary_risk.Attack(0.01, 0.005, 2, 4)(
        net, *samples(net, 2), 0
    )


WORDS = (
    (AttackPoint("clean"), "clean", "clean"),
    (AttackPoint("clean", corruption="fog", severity=3), "fog-3", "fog-3"),
    (AttackPoint("clean", part="sketch"), "sketch", "sketch"),
    (corrupted("gaussian_noise", 5), "gaussian_noise-5", "gaussian noise-5"),
    (AttackPoint("corruptions", corruption="fog", severity=3, part="a"), "fog-3 a", "fog-3 a"),
    (AttackPoint("fgsm", 8 / 255), "fgsm", "FGSM"),
    (AttackPoint("square", 8 / 255), "square", "Square"),
    (pgd_point(20, 8 / 255), "pgd20", "PGD-20"),
    (pgd_point(20, 0.1, 0.02), "pgd20-step5.1", "PGD-20-step5.1"),
    (pgd_point(2, 0.08, 0.05, restarts=5), "pgd2-step12.8-x5", "PGD-2-step12.8-x5"),
    (pgd_point(10, 0.08, start="gauss"), "pgd10-gauss", "PGD-10-gauss"),
    (pgd_point(20, 0.1, corruption="fog", severity=3), "pgd20 fog-3", "PGD-20 fog-3"),
    (on_path(0), "path0", "path0"),
    (on_path(3, 20, part="sketch"), "path3-pgd20 sketch", "path3-pgd20 sketch"),
)


@pytest.mark.parametrize(("point", "plainly", "head"), WORDS)
def test_attacks_in_words(point, plainly, head):
    assert (format_plain_attack(point), format_attack(point)) == (plainly, head)


def test_a_radius_and_a_surrogate_in_words():
    assert format_attack_at(pgd_point(20, 4 / 255)) == "PGD-20 at 4/255"
    assert format_attack_at(AttackPoint("clean")) == "clean"
    transferred = AttackPoint("cw_linf", 8 / 255, surrogate="rn_34")
    assert format_attack_at(transferred) == "CW (Linf) from rn_34 at 8/255"


any_point = st.builds(
    AttackPoint,
    st.sampled_from(list_plugin_names("attacks")),
    st.sampled_from((0.0, 4 / 255, 8 / 255)),
    st.integers(1, 100),
    st.sampled_from((2 / 255, 0.02)),
    st.sampled_from(("uniform", "gauss")),
    st.integers(1, 3),
    st.sampled_from((None, "fog", "snow")),
    st.integers(1, 5),
    st.sampled_from((None, 0, 1)),
    st.sampled_from((None, 20)),
    st.sampled_from((None, "sketch")),
    st.sampled_from((None, "rn34")),
)


@given(st.lists(any_point, min_size=2, max_size=6, unique=True))
def test_points_have_one_order_whatever_is_empty(points):
    turned = [*points[1:], points[0]]
    for key in (rank_by_columns, rank_by_strength):
        assert sorted(points, key=key) == sorted(turned, key=key)
    assert len({rank_by_columns(point) for point in points}) == len(points)


@given(any_point, any_point)
def test_transferred_attacks_stand_behind_all_others(one, two):
    if one.surrogate is None and two.surrogate is not None:
        assert rank_by_strength(one) < rank_by_strength(two)
