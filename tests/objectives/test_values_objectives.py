"""Losses and gradients of the objectives against plain derivations that share their noise."""

import pytest
import torch
from torch import nn

from pipeline.core.batch import Roles
from pipeline.objectives import adaad, dad, kd, natural, pgd_at, rslad
from tests.helpers.plain import (
    EXACT,
    STEPS,
    Network,
    assert_same_terms_and_gradients,
    attack,
    batch,
    ce,
    divergence,
    make_objective,
)


@pytest.fixture
def roles() -> Roles:
    return Roles(Network(1).train(), {"robust": Network(2).eval().requires_grad_(False)})


def plain_natural(s, t, b):
    return {"ce": ce(s(b.x), b.y)}


def plain_kd(s, t, b):
    return {
        "ce": 0.7 * ce(s(b.x), b.y),
        "kd": 0.3 * 9 * divergence(t(b.x), s(b.x), 3.0),
    }


def plain_dad(s, t, b):
    adv = b.stored["x_adv"]
    return {
        "ce": ce(s(b.x), b.y),
        "kd": 0.5 * 16 * divergence(t(b.x), s(b.x), 4.0),
        "dad": 0.5 * 16 * divergence(t(adv), s(adv), 4.0),
    }


def plain_pgd_at(s, t, b):
    return {"ce_adv": ce(s(attack(b.x, lambda z: ce(s(z), b.y))), b.y)}


def plain_rslad(s, t, b):
    adv = attack(b.x, lambda z: divergence(t(b.x), s(z)))
    return {
        "kd_adv": 0.1 * 5 / 6 * divergence(t(b.x), s(adv)),
        "kd": 0.1 * 1 / 6 * divergence(t(b.x), s(b.x)),
    }


def plain_adaad(s, t, b):
    adv = attack(b.x, lambda z: divergence(t(z), s(z)))
    return {
        "kd_adv": 2.0 * 0.8 * 9 * divergence(t(adv), s(adv), 3.0),
        "kd": 2.0 * 0.2 * divergence(t(b.x), s(b.x)),
    }


def plain_adaad_default(s, t, b):
    adv = attack(b.x, lambda z: divergence(t(z), s(z)))
    return {"kd_adv": divergence(t(adv), s(adv))}


CASES = {
    "natural": (natural.Objective(), plain_natural),
    "kd": (kd.Objective(alpha=0.3, temperature=3.0), plain_kd),
    "dad": (dad.Objective(), plain_dad),
    "pgd_at": (make_objective(pgd_at, steps=STEPS), plain_pgd_at),
    "rslad": (make_objective(rslad, steps=STEPS, kd_scale=0.1), plain_rslad),
    "adaad": (
        make_objective(adaad, steps=STEPS, alpha=0.8, temperature=3.0, kd_scale=2.0),
        plain_adaad,
    ),
    "adaad_default": (make_objective(adaad, steps=STEPS), plain_adaad_default),
}


@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients_match_a_plain_derivation(name, roles):
    objective, plain = CASES[name]
    stored = {"x_adv": 1 - batch().x} if name == "dad" else {}
    (terms,) = objective(roles, batch(**stored))
    expected = plain(roles.student, roles.teacher, batch(**stored))
    assert_same_terms_and_gradients(terms, expected, list(roles.student.parameters()))


@pytest.mark.parametrize("name", ["kd", "dad", "rslad"])
def test_stored_outputs_give_the_same_numbers_without_a_teacher(name, roles):
    objective, _ = CASES[name]
    x_adv = 1 - batch().x
    stored = {"x_adv": x_adv, "t_clean": roles.teacher(batch().x), "t_adv": roles.teacher(x_adv)}
    (live,) = objective(roles, batch(x_adv=x_adv))
    (cached,) = objective(Roles(roles.student), batch(**stored))
    for term, values in live.items():
        torch.testing.assert_close(cached[term], values, **EXACT)


def test_adaad_at_alpha_one_still_shows_the_clean_images_to_batchnorm():
    student = nn.Sequential(nn.BatchNorm2d(3), Network(1)).double().train()
    teacher = Network(2).eval()
    tuple(make_objective(adaad, steps=1)(Roles(student, {"t": teacher}), batch()))
    assert student[0].num_batches_tracked == 2


def test_a_student_equal_to_its_teacher_has_nothing_to_learn_from_adaad():
    twin = Roles(Network(2), {"robust": Network(2).eval()})
    (terms,) = make_objective(adaad, steps=STEPS)(twin, batch())
    torch.testing.assert_close(terms["kd_adv"], torch.zeros(6, dtype=torch.float64), **EXACT)


@pytest.mark.parametrize("module", [pgd_at, rslad, adaad])
def test_swapped_radius_and_step_are_refused(module):
    with pytest.raises(ValueError, match="swapped"):
        make_objective(module, eps=2 / 255, step=8 / 255)
    with pytest.raises(ValueError, match="eps: -0.1 is negative"):
        make_objective(module, eps=-0.1)
