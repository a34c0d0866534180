"""DERD's student losses, gradient harmonisation and cost against plain derivations."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles
from pipeline.objectives import data_free_kd, derd
from pipeline.objectives.derd import Objective, cosine_similarity, dot_product, harmonise_gradients

NUMBERS = st.floats(-10, 10, allow_nan=False, width=32)
VECTORS = st.lists(NUMBERS, min_size=4, max_size=4)


class Network(nn.Module):
    """Linear, BatchNorm, linear; counts forwards, and backwards to its input."""

    def __init__(self, seed: int):
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(2, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 3)
        self.forwards = self.backwards = 0

    def count(self, grad: Tensor) -> None:
        self.backwards += 1

    def forward(self, x: Tensor) -> Tensor:
        self.forwards += 1
        if x.requires_grad:
            x.register_hook(self.count)
        logits = self.fc(self.norm(self.conv(x)).relu().mean((2, 3)))
        if self.training and logits.requires_grad:
            logits.register_hook(self.count)
        return 3 * logits


def roles() -> Roles:
    student = Network(1).double().train()
    teachers = {name: Network(seed).double() for name, seed in (("natural", 2), ("robust", 3))}
    return Roles(student, {n: t.eval().requires_grad_(False) for n, t in teachers.items()})


def batch(models: Roles, stored: bool = True, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(5)
    x = torch.rand(6, 2, 5, 5, generator=rng, dtype=torch.float64)
    kept = {"t_clean": models.teachers["natural"](x)} if stored else {}
    for network in (models.student, *models.teachers.values()):
        network.forwards = network.backwards = 0
    own = torch.Generator().manual_seed(seed)
    return Batch(x, None, torch.arange(6), kept, 0.0, 0, own)


def plain_kl(student: Tensor, teacher: Tensor) -> list[float]:
    """KL(teacher || student) of each row, with nothing but math."""
    rows = []
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        s, t = ([math.exp(v) / sum(map(math.exp, row)) for v in row] for row in (s, t))
        rows.append(sum(b * math.log(b / a) for a, b in zip(s, t, strict=True)))
    return rows


def plain_ascent(models: Roles, x: Tensor, setting: Objective) -> Tensor:
    """x_d by a loop of its own."""
    natural, robust = models.teachers["natural"], models.teachers["robust"]
    label, z = natural(x).argmax(1), x.clone()
    for _ in range(setting.steps):
        z = z.detach().requires_grad_()
        n, r = natural(z), robust(z)
        if setting.discrepancy == "probs":
            gap = (torch.softmax(n, 1) - torch.softmax(r, 1)).abs().sum()
        else:
            gap = (n - r).abs().sum()
        nll = -torch.log_softmax(n, 1)[torch.arange(len(x)), label].sum()
        (gap + setting.lambda_d * nll).backward()
        z = (z.detach() + setting.step * z.grad.sign()).clip(0, 1)
    return z.detach()


def gradients(models: Roles, terms: dict[str, Tensor]) -> dict[str, list[Tensor]]:
    """As the loop takes them: one list a term, zeros where a parameter is unused."""
    params = list(models.student.parameters())
    return {
        name: list(
            torch.autograd.grad(
                term.mean(), params, retain_graph=True, allow_unused=True, materialize_grads=True
            )
        )
        for name, term in terms.items()
    }


@pytest.mark.parametrize("discrepancy", ["probs", "logits"])
@pytest.mark.parametrize("stored", [True, False])
def test_terms_match_a_plain_derivation(discrepancy, stored):
    models = roles()
    data = batch(models, stored)
    setting = Objective(
        lambda_d=0.7, lambda_rob=2.0, tau=0.3, discrepancy=discrepancy, step=0.03, steps=4
    )
    (terms,) = setting(models, data)
    x = plain_ascent(models, data.x, setting)
    assert not torch.equal(x, data.x)
    logits = models.student(x)
    natural = plain_kl(logits, models.teachers["natural"](x))
    robust = [2 * v for v in plain_kl(logits, models.teachers["robust"](x))]
    rng, total = torch.Generator().manual_seed(0), 0.0
    for weight in (models.student.conv.weight, models.student.fc.weight):
        r = torch.randn(weight.shape, generator=rng, dtype=weight.dtype)
        total += ((r * weight) ** 2).sum().item()
    assert list(terms) == ["natural", "robust", "sga"]
    assert terms["natural"].tolist() == pytest.approx(natural, abs=1e-9)
    assert terms["robust"].tolist() == pytest.approx(robust, abs=1e-9)
    assert terms["sga"].tolist() == pytest.approx([0.3 * math.sqrt(total)] * 6, abs=1e-9)


def test_the_samples_leave_every_ball_but_not_the_image_range():
    models = roles()
    data = batch(models)
    x = Objective(step=0.2, steps=5).make_discrepant_images(models, data)
    assert (x - data.x).abs().max() > 0.5
    assert x.min() >= 0
    assert x.max() <= 1
    assert torch.equal(Objective(self_adversary=False).make_discrepant_images(models, data), data.x)


def test_switches_leave_terms_out():
    models = roles()
    data = batch(models)
    only = Objective(expert=False, sga="none", steps=1)
    (terms,) = only(models, data)
    assert list(terms) == ["robust"]
    grads = gradients(models, terms)
    merged, facts = only.combine(grads, list(models.student.parameters()))
    assert facts == {}
    assert all(map(torch.equal, merged, grads["robust"]))
    (terms,) = replace(only, expert=True)(models, data)
    assert list(terms) == ["natural", "robust"]


def test_additive_regulariser_has_gradient_tau_r():
    models = roles()
    (terms,) = Objective(sga="additive", tau=0.2, steps=0)(models, batch(models))
    rng = torch.Generator().manual_seed(0)
    params = list(models.student.parameters())
    for param, grad in zip(params, gradients(models, terms)["sga"], strict=True):
        r = torch.zeros_like(param)
        if param.ndim > 1:
            r = torch.randn(param.shape, generator=rng, dtype=param.dtype)
        torch.testing.assert_close(grad, 0.2 * r, rtol=1e-9, atol=1e-9)


def test_decay_regulariser_has_the_papers_gradient():
    models = roles()
    (terms,) = Objective(tau=0.2, steps=0)(models, batch(models))
    grads = gradients(models, terms)["sga"]
    rng = torch.Generator().manual_seed(0)
    params = [p for p in models.student.parameters() if p.ndim > 1]
    noise = [torch.randn(p.shape, generator=rng, dtype=p.dtype) for p in params]
    norm = math.sqrt(sum(((r * p) ** 2).sum().item() for r, p in zip(noise, params, strict=True)))
    weights = [g for g, p in zip(grads, models.student.parameters(), strict=True) if p.ndim > 1]
    for grad, r, p in zip(weights, noise, params, strict=True):
        expected = 0.2 * r**2 * p.detach() / norm
        torch.testing.assert_close(grad, expected, rtol=1e-9, atol=1e-9)


def test_randomness_comes_from_the_step_alone():
    models = roles()
    draws = []
    for seed in (0, 0, 1):
        (terms,) = Objective(steps=1)(models, batch(models, seed=seed))
        draws.append(terms["sga"])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_a_step_costs_no_more_than_its_floor():
    models = roles()
    data, setting = batch(models), Objective(sga="none")
    (terms,) = setting(models, data)
    gradients(models, terms)
    for teacher in models.teachers.values():
        assert (teacher.forwards, teacher.backwards) == (11, 10)  # 42 F_T for the pair
    assert models.student.forwards == 1
    assert models.student.backwards == 2  # and each is 2 F_S: 5 F_S in all


def test_teachers_and_student_are_left_as_they_were():
    models = roles()
    models.teachers["robust"].requires_grad_(True)
    for _ in Objective(steps=2)(models, batch(models)):
        pass
    assert all(p.requires_grad and p.grad is None for p in models.teachers["robust"].parameters())
    assert models.student.training
    assert not models.teachers["robust"].training
    assert models.student.norm.num_batches_tracked == 1


@settings(deadline=None)
@given(VECTORS, VECTORS)
def test_harmonised_is_the_sum_of_mutual_projections(one, two):
    first, second = (torch.tensor(v, dtype=torch.float64) for v in (one, two))
    parts = [[v[:1], v[1:].view(3, 1)] for v in (first, second)]
    merged = torch.cat([t.flatten() for t in harmonise_gradients(*parts)])
    inner = sum(a * b for a, b in zip(one, two, strict=True))
    squares = [sum(a * a for a in v) for v in (one, two)]
    if inner >= 0:
        assert torch.equal(merged, first + second)
    elif min(squares) > 1e-6:
        projected = first - inner / squares[1] * second + second - inner / squares[0] * first
        torch.testing.assert_close(merged, projected, rtol=1e-9, atol=1e-9)
        slack = 1e-9 * (1 + max(squares))
        assert merged @ first >= -slack
        assert merged @ second >= -slack


def test_hand_computed_harmonisation():
    first, second = [torch.tensor([1.0, 0.0])], [torch.tensor([-1.0, 1.0])]
    assert dot_product(first, second).item() == -1
    assert cosine_similarity(first, second).item() == pytest.approx(-1 / math.sqrt(2))
    assert harmonise_gradients(first, second)[0].tolist() == [0.5, 1.5]
    zero = [torch.zeros(2)]
    assert cosine_similarity(first, zero).item() == 0
    assert harmonise_gradients(first, zero)[0].tolist() == [1, 0]


def test_combine_adds_the_regulariser_after_harmonising():
    grads = {
        "natural": [torch.tensor([1.0, 0.0])],
        "robust": [torch.tensor([-1.0, 1.0])],
        "sga": [torch.tensor([10.0, 20.0])],
    }
    merged, facts = Objective().combine(grads, [])
    assert merged[0].tolist() == [10.5, 21.5]
    assert facts["cosine"].item() == pytest.approx(-1 / math.sqrt(2))
    merged, facts = Objective(harmonise=False).combine(grads, [])
    assert merged[0].tolist() == [10.0, 21.0]
    assert "cosine" in facts


@pytest.mark.parametrize("t", [1.0, 4.0])
@pytest.mark.parametrize("stored", [True, False])
def test_data_free_kd_matches_a_plain_derivation(t, stored):
    models = roles()
    data = batch(models, stored)
    alone = Roles(models.student, {"natural": models.teachers["natural"]})
    (terms,) = data_free_kd.Objective(t)(alone, data)
    assert models.teachers["natural"].forwards == (0 if stored else 1)
    student, teacher = models.student(data.x), models.teachers["natural"](data.x)
    expected = [t * t * v for v in plain_kl(student / t, teacher / t)]
    assert terms["kd"].tolist() == pytest.approx(expected, abs=1e-9)


def test_contract():
    assert Objective().needs() == ("generated", "natural", "robust")
    assert data_free_kd.Objective().needs() == ("generated", "teacher")
    assert derd.REVISION == data_free_kd.REVISION == 1
