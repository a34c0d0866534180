"""SAAD, ABSLD and B-MTARD: values by hand, and against their formulas written out.

With CIARD also: outputs in bf16 keep temperatures and entropies in single precision.
"""

from dataclasses import replace

import pytest
import torch

from pipeline.core.batch import Roles
from pipeline.objectives import absld, b_mtard, ciard, saad
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


@pytest.fixture
def roles() -> Roles:
    """A student and its teacher."""
    return Roles(Network(1).train(), {"teacher": Network(2).eval().requires_grad_(False)})


def entropy(z):
    log_p = log_probabilities(z)
    return -(log_p.exp() * log_p).sum(1)


def plain_saad(s, t, b, alpha, beta, lam):
    z = b.x.clone().requires_grad_()
    logits = t(z)
    slope = torch.stack(
        [
            torch.autograd.grad(logits[i, y], z, retain_graph=True)[0][i]
            for i, y in enumerate(b.y.tolist())
        ]
    )

    def corrected(x):
        changed = logits.detach().clone()
        for i, y in enumerate(b.y.tolist()):
            changed[i, y] = changed[i, y] + lam * (slope[i] * (x[i] - b.x[i])).sum()
        return changed

    def gap(x):  # the target's own change is part of the loss
        rows = torch.arange(len(b.x))
        change = lam * (slope * (x - b.x)).sum((1, 2, 3))
        moved = logits.detach().index_put((rows, b.y), change, accumulate=True)
        torch.testing.assert_close(moved.detach(), corrected(x.detach()), **EXACT)
        return divergence(moved, s(x))

    adv = attack(b.x, gap)
    back = b.x - (adv - b.x)
    h = entropy(t(adv))
    w = 5 * (h - h.min())
    terms = {
        "kd_adv": w * divergence(t(adv), s(adv)),
        "igdm": alpha * b.progress * w * divergence(t(adv) - t(back), s(adv) - s(back)),
    }
    if beta:
        share = (w - w.min()) / (w.max() - w.min() + 1e-8)
        terms["kd"] = beta * (1 - share) * divergence(t(b.x), s(b.x))
    return terms


@pytest.mark.parametrize(("alpha", "beta", "lam"), [(1.0, 0.0, 1.0), (10.0, 0.5, 0.3)])
def test_saad_matches_its_formulas(alpha, beta, lam, roles):
    made = make_objective(saad, steps=STEPS, alpha=alpha, beta=beta, correction=lam)
    (terms,) = made(roles, batch(0.5))
    expected = plain_saad(roles.student, roles.teacher, batch(0.5), alpha, beta, lam)
    assert_same_terms_and_gradients(terms, expected, list(roles.student.parameters()))


def test_saads_surest_sample_weighs_nothing(roles):
    (terms,) = make_objective(saad, steps=STEPS)(roles, batch(0.5))
    assert (terms["kd_adv"] == 0).sum() == 1
    assert terms["igdm"][terms["kd_adv"] == 0].item() == 0


def test_saads_label_gradient_by_hand():
    """T(x) = (2 x, -x): the gradient of the label's logit is the label's weight."""
    teacher = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(1, 2, bias=False))
    teacher.requires_grad_(False)[1].weight.copy_(torch.tensor([[2.0], [-1.0]]))
    x = torch.full((2, 1, 1, 1), 0.5)
    logits, gradient = saad.compute_label_gradient(teacher, x, torch.tensor([0, 1]))
    assert logits.tolist() == [[1.0, -0.5], [1.0, -0.5]]
    assert gradient.flatten().tolist() == [2.0, -1.0]
    assert not x.requires_grad


def test_saad_does_not_carry_igdm_twice(roles):
    from pipeline.errors import RetortError
    from pipeline.training.gradient_matching import GradientMatching

    with pytest.raises(RetortError, match="saad: has igdm already"):
        list(GradientMatching(make_objective(saad, steps=STEPS), 1.0)(roles, batch(0.5)))


def make_absld(roles: Roles, **options) -> absld.Objective:
    made = make_objective(absld, steps=STEPS, **options)
    made.prepare(roles, batch())
    return made


def test_absld_matches_its_formulas(roles):
    made, b = make_absld(roles, kd_scale=0.1), batch()
    hot = torch.tensor([0.5, 1.0, 2.0, 3.0, 5.0], dtype=torch.float64)
    made.temperatures.copy_(torch.stack([hot, hot.flip(0)]))
    (terms,) = made(roles, batch())
    s, clean = roles.student, roles.teacher(b.x)
    first, second = clean / hot[b.y][:, None], clean / hot.flip(0)[b.y][:, None]
    adv = attack(b.x, lambda z: divergence(first, s(z)))
    expected = {
        "kd_adv": 0.1 * 5 / 6 * divergence(first, s(adv)),
        "kd": 0.1 / 6 * divergence(second, s(b.x)),
    }
    assert_same_terms_and_gradients(terms, expected, list(s.parameters()))
    for c in range(CLASSES):
        rows = b.y == c
        assert made.counts[c] == rows.sum()
        assert made.losses[0, c].item() == pytest.approx(ce(s(adv), b.y)[rows].sum().item())
        assert made.losses[1, c].item() == pytest.approx(ce(s(b.x), b.y)[rows].sum().item())


def test_absld_moves_its_temperatures_by_hand(roles):
    """Means 3, 1, 2 of three classes: gaps 1, -1, 0; of x 0, 0.5, 4: -1.5, -1, 2.5."""
    made = make_absld(roles)
    made.losses[:, :3] = torch.tensor([[6.0, 1.0, 8.0], [0.0, 0.5, 16.0]])
    made.counts[:3] = torch.tensor([2.0, 1.0, 4.0])
    made.move_temperatures(0, 0.0)
    assert made.temperatures.eq(1).all()  # it is the same epoch
    made.move_temperatures(1, 0.5)
    found = made.temperatures
    assert found[0].tolist() == pytest.approx([0.9, 1.1, 1.0, 1.0, 1.0])  # two were not seen
    assert found[1].tolist() == pytest.approx([1.06, 1.04, 0.9, 1.0, 1.0])
    assert not made.losses.any()
    assert not made.counts.any()
    made.losses[:, :2] = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    made.counts[:2] = 1
    made.move_temperatures(2, 0.9)
    assert made.temperatures[0, :2].tolist() == pytest.approx([0.899, 1.101])  # two cuts


def test_absld_keeps_its_temperatures_apart_and_bounded(roles):
    """The released code divides one tensor by both temperatures in place."""
    made = make_absld(roles, rate=9.0)
    made.losses[:, :2] = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    made.counts[:2] = 1
    list(made(roles, replace(batch(), epoch=1)))
    assert made.temperatures[:, :2].tolist() == [[0.5, 5.0], [5.0, 0.5]]


@pytest.fixture
def pair() -> Roles:
    """A student and its two teachers."""
    robust, natural = (Network(seed).eval().requires_grad_(False) for seed in (2, 3))
    return Roles(Network(1).train(), {"robust": robust, "natural": natural})


def test_b_mtard_matches_its_formulas(pair):
    made, b = make_objective(b_mtard, steps=STEPS, kd_scale=0.1), batch()
    made.temperatures.copy_(torch.tensor([2.0, 3.0]))
    (terms,) = made(pair, batch())
    s, t = pair.student, pair.teachers
    adv = attack(b.x, lambda z: ce(s(z), b.y))
    hot, mild = t["robust"](adv) / 2, t["natural"](b.x) / 3
    expected = {
        "robust": 0.05 * divergence(hot, s(adv)),
        "natural": 0.05 * divergence(mild, s(b.x)),
    }
    assert_same_terms_and_gradients(terms, expected, list(s.parameters()))
    step = 0.001 if entropy(hot).mean() > entropy(mild).mean() else -0.001
    assert made.temperatures.tolist() == pytest.approx([2 - step, 3 + step])


def test_b_mtard_moves_by_hand():
    made = b_mtard.Objective()
    one, two = (torch.tensor(v).double() for v in ([2.0, 1.0], [1.0, 1.0]))
    assert made.move(one, torch.tensor([0.2, 0.9]), 0.0).item() == 0.5
    assert made.temperatures.tolist() == pytest.approx([1.001, 1.0])  # 0.999 is below its bound
    found = made.move(two, torch.tensor([0.9, 0.2]), 0.75).item()
    assert found == pytest.approx(0.5 + 0.0025 * (2 / 3 - 0.5))
    assert made.temperatures.tolist() == pytest.approx([1.0009, 1.0001])
    again = b_mtard.Objective()
    again.load_state_dict(made.state_dict())
    assert again.temperatures.tolist() == made.temperatures.tolist()


class Coarse(torch.nn.Module):
    """A network whose logits are rounded to bf16, and then kept so or widened."""

    def __init__(self, network: torch.nn.Module, dtype: torch.dtype):
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x):
        return self.network(x).bfloat16().to(self.dtype)


@pytest.mark.parametrize("method", [absld, b_mtard, ciard, saad])
def test_outputs_in_bf16_count_as_in_single_precision(method):
    found = []
    for dtype in (torch.bfloat16, torch.float32):
        teachers = (Network(seed).eval().requires_grad_(False) for seed in (2, 3))
        names = ("teacher",) if method in (absld, saad) else ("robust", "natural")
        coarse = {name: Coarse(net, dtype) for name, net in zip(names, teachers, strict=False)}
        roles = Roles(Network(1).train(), coarse)
        made = make_objective(method, steps=STEPS)
        if method is absld:
            made.prepare(roles, batch())
        if method is not saad:
            made.temperatures.fill_(1.003)  # bf16 has no number between 1 and 1.0078
        (terms,) = made(roles, batch(0.5))
        found.append(terms)
    for name in found[0].keys() - {"teacher"}:  # a cross-entropy, which has no temperature
        values = found[0][name]
        assert torch.equal(values.double(), found[1][name].double()), name
