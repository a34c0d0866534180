"""The data-driven objectives against plain derivations that share their noise."""

import math

import pytest
import torch
from torch import Tensor

from pipeline.core.batch import Roles
from pipeline.objectives import (
    adaad,
    adaiad,
    akd,
    akd2,
    ard,
    crdnd_like,
    dist,
    gacd_like,
    iad,
    iad2,
    mtard,
    trades,
)
from tests.helpers.plain import (
    CLASSES,
    EXACT,
    STEPS,
    Network,
    assert_same_terms_and_gradients,
    attack,
    batch,
    ce,
    divergence,
    log_probabilities,
    make_objective,
)

FROM, BEFORE = 0.3, 0.29  # the first progress at which introspection counts, and one before


@pytest.fixture
def roles() -> Roles:
    return Roles(Network(1).train(), {"robust": Network(2).eval().requires_grad_(False)})


@pytest.fixture
def pair(roles) -> Roles:
    """Two teachers."""
    natural = Network(3).eval().requires_grad_(False)
    return Roles(roles.student, {**roles.teachers, "natural": natural})


def hardest(s, b, start: str = "uniform") -> Tensor:
    """x* of a cross-entropy ascent."""
    return attack(b.x, lambda z: ce(s(z), b.y), start)


def trust(logits: Tensor, y: Tensor) -> Tensor:
    """p_y^0.1."""
    return log_probabilities(logits).exp()[torch.arange(len(y)), y] ** 0.1


def correlation(a: Tensor, b: Tensor) -> Tensor:
    """Pearson's, one a row."""
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / ((a * a).sum(1) * (b * b).sum(1)).sqrt()


def plain_trades(s, t, b):
    still = s(b.x).detach()
    adv = attack(b.x, lambda z: divergence(still, s(z)))
    return {"ce": ce(s(b.x), b.y), "self_adv": 6 * divergence(s(b.x), s(adv))}


def plain_dist(s, t, b):
    p, q = (log_probabilities(net(b.x) / 2).exp() for net in (s, t["robust"]))
    columns = 1 - correlation(p.t(), q.t()).mean()
    return {
        "ce": ce(s(b.x), b.y),
        "rows": 3 * 4 * (1 - correlation(p, q)),
        "columns": 5 * 4 * columns * torch.ones(6, dtype=torch.float64),
    }


def plain_ard(s, t, b):
    return {"kd_adv": 90 * divergence(t["robust"](b.x), s(hardest(s, b)), 30.0)}


def plain_ard_t1(s, t, b):
    return {
        "kd_adv": 0.6 * divergence(t["robust"](b.x), s(hardest(s, b))),
        "ce": 0.4 * ce(s(b.x), b.y),
    }


def plain_iad(s, t, b):
    adv = hardest(s, b)
    terms = {"kd_adv": divergence(t["robust"](b.x), s(adv))}
    if b.progress >= FROM:
        share = 1 - trust(t["robust"](adv), b.y)
        terms["self_adv"] = share * divergence(s(b.x), s(adv))
    return terms


def plain_iad_weighted(s, t, b):
    adv = hardest(s, b)
    a = trust(t["robust"](adv), b.y)
    return {
        "kd_adv": a * 0.8 * 4 * divergence(t["robust"](b.x), s(adv), 2.0),
        "self_adv": (1 - a) * 0.8 * divergence(s(b.x), s(adv)),
        "ce": 0.2 * ce(s(b.x), b.y),
    }


def plain_akd(s, t, b):
    adv = hardest(s, b, "gauss")
    p = log_probabilities(t["robust"](adv)).exp()
    return {
        "kd_adv": 0.25 * -(p * log_probabilities(s(adv))).sum(1),
        "ce_adv": 0.75 * ce(s(adv), b.y),
    }


def plain_akd2(s, t, b):
    adv = hardest(s, b)
    return {
        "robust": 0.5 * divergence(t["robust"](adv), s(adv)),
        "natural": 0.25 * divergence(t["natural"](adv), s(adv)),
        "ce_adv": 0.25 * ce(s(adv), b.y),
    }


def plain_iad2(s, t, b):
    """The released IAD-II, whose second term reads S(x) with its gradient."""
    adv = hardest(s, b)
    robust, natural = t["robust"](adv), t["natural"](adv)
    a = trust(robust, b.y) if b.progress >= 0.2 else torch.ones(6, dtype=torch.float64)
    terms = {
        "robust": 0.5 * 4 * a * divergence(robust, s(adv), 2.0),
        "natural": 0.25 * 4 * divergence(natural, s(adv), 2.0),
        "ce_adv": 0.25 * ce(s(adv), b.y),
    }
    if b.progress >= 0.2:
        terms["self_adv"] = 0.5 * 4 * (1 - a) * divergence(s(b.x), s(adv))
    return terms


def plain_mtard(s, t, b):
    """The released loss: a mean over samples and classes, times 10 on a hundred classes."""
    adv = hardest(s, b, "gauss")
    return {
        "robust": 0.1 * 0.5 * divergence(t["robust"](adv), s(adv)),
        "natural": 0.1 * 0.5 * divergence(t["natural"](b.x), s(b.x)),
    }


def plain_adaiad(s, t, b):
    t = t["robust"]
    adv = attack(b.x, lambda z: divergence(t(z), s(z)))
    terms = {"kd_adv": 900 * divergence(t(adv), s(adv), 30.0)}
    if b.progress >= FROM:
        terms["self_adv"] = (1 - trust(t(adv), b.y)) * divergence(s(b.x), s(adv))
    return terms


def plain_adaiad_mixed(s, t, b):
    terms = plain_adaiad(s, t, b)
    return {k: 0.7 * v for k, v in terms.items()} | {"ce": 0.3 * ce(s(b.x), b.y)}


def plain_crdnd(s, t, b):
    raw = t["robust"](b.x)
    log_p = log_probabilities(raw)
    h = -(log_p.exp() * log_p).sum(1, keepdim=True) / math.log(CLASSES)
    target = raw * (1 + h)
    adv = attack(b.x, lambda z: divergence(target, s(z)))

    def others(z: Tensor) -> Tensor:
        rows = [
            torch.stack([torch.cosine_similarity(z[i], z[j], 0) for j in range(6) if j != i])
            for i in range(6)
        ]
        return torch.stack(rows) / 0.5

    return {
        "kd_adv": 0.1 * 5 / 6 * divergence(target, s(adv)),
        "kd": 0.1 * 1 / 6 * divergence(target, s(b.x)),
        "relation": 0.1 * divergence(others(raw), others(s(adv))),
    }


CASES = {
    "trades": (make_objective(trades, steps=STEPS), plain_trades, 0),
    "dist": (dist.Objective(beta=3.0, gamma=5.0, temperature=2.0), plain_dist, 0),
    "ard": (make_objective(ard, steps=STEPS, kd_scale=0.1), plain_ard, 0),
    "ard_t1": (
        make_objective(ard, steps=STEPS, alpha=0.6, temperature=1.0, kd_scale=1.0),
        plain_ard_t1,
        0,
    ),
    "iad_before": (make_objective(iad, steps=STEPS), plain_iad, BEFORE),
    "iad": (make_objective(iad, steps=STEPS), plain_iad, FROM),
    "iad_weighted": (
        make_objective(iad, steps=STEPS, alpha=0.8, temperature=2.0, weight_teacher=True),
        plain_iad_weighted,
        1,
    ),
    "akd": (make_objective(akd, steps=STEPS, beta=0.25), plain_akd, 0),
    "akd2": (make_objective(akd2, steps=STEPS), plain_akd2, 0),
    "iad2_before": (make_objective(iad2, steps=STEPS, temperature=2.0), plain_iad2, 0.19),
    "iad2": (make_objective(iad2, steps=STEPS, temperature=2.0), plain_iad2, 0.2),
    "mtard": (make_objective(mtard, steps=STEPS, kd_scale=0.1), plain_mtard, 0),
    "adaiad_before": (make_objective(adaiad, steps=STEPS), plain_adaiad, BEFORE),
    "adaiad": (make_objective(adaiad, steps=STEPS), plain_adaiad, FROM),
    "adaiad_mixed": (make_objective(adaiad, steps=STEPS, alpha=0.7), plain_adaiad_mixed, FROM),
    "crdnd_like": (make_objective(crdnd_like, steps=STEPS), plain_crdnd, 0),
}


@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients_match_a_plain_derivation(name, roles, pair):
    objective, plain, progress = CASES[name]
    given = pair if "natural" in objective.needs() else roles
    (terms,) = objective(given, batch(progress))
    expected = plain(given.student, given.teachers, batch(progress))
    assert_same_terms_and_gradients(terms, expected, list(given.student.parameters()))


def test_gacds_contrast_and_projections_match_a_plain_derivation(roles):
    objective, s, t = make_objective(gacd_like, steps=STEPS), roles.student, roles.teacher
    objective.prepare(roles, batch())
    assert objective.anchor.shape == objective.positive.shape == (16, 128)
    (terms,) = objective(roles, batch())
    b, target = batch(), t(batch().x)
    adv = attack(b.x, lambda z: divergence(target, s(z)))
    a, q = t.features(b.x) @ objective.anchor, s.features(adv) @ objective.positive
    cosines = torch.stack([torch.cosine_similarity(row[None], q, 1) for row in a])
    expected = {
        "kd_adv": 0.1 * 5 / 6 * divergence(target, s(adv)),
        "kd": 0.1 * 1 / 6 * divergence(target, s(b.x)),
        "contrast": 0.1
        * log_probabilities(target).exp().max(1).values
        * ce(cosines / 0.2, torch.arange(6)),
    }
    learnt = [*s.parameters(), *objective.parameters()]
    assert_same_terms_and_gradients(terms, expected, learnt)


@pytest.mark.parametrize("name", ["dist", "ard", "crdnd_like"])
def test_stored_outputs_give_the_same_numbers_without_a_teacher(name, roles):
    objective, _, _ = CASES[name]
    (live,) = objective(roles, batch())
    (cached,) = objective(Roles(roles.student), batch(t_clean=roles.teacher(batch().x)))
    for term, values in live.items():
        torch.testing.assert_close(cached[term], values, **EXACT)


def test_adaad_t30_is_adaiad_without_introspection(roles):
    (control,) = make_objective(adaad, steps=STEPS, temperature=30.0)(roles, batch())
    (before,) = make_objective(adaiad, steps=STEPS)(roles, batch(BEFORE))
    assert control.keys() == before.keys() == {"kd_adv"}
    torch.testing.assert_close(control["kd_adv"], before["kd_adv"], **EXACT)


@pytest.mark.parametrize(
    "module", [trades, ard, iad, iad2, akd, akd2, mtard, adaiad, crdnd_like, gacd_like]
)
def test_swapped_radius_and_step_are_refused(module):
    with pytest.raises(ValueError, match="swapped"):
        make_objective(module, eps=2 / 255, step=8 / 255)
