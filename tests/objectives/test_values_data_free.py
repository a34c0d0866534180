"""The data-free students' losses and gradients against formulas written out in double precision."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.attention import attention_gap, collect_attention_maps
from pipeline.core.batch import Roles
from pipeline.errors import RetortError
from pipeline.objectives import data_free_kd, derd, dfad, dfard_like, dfhl_rs, zskt
from tests.helpers.plain import (
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

ALPHA = 5 / 6
both_forms = pytest.mark.parametrize("hard", [False, True], ids=["plain", "robust"])


def roles() -> Roles:
    """A student and its teacher, which are not the same network."""
    return Roles(Network(1), {"robust": Network(2).requires_grad_(False)})


def form(hard: bool) -> dict:
    """The options of the plain form, or of the robust one."""
    return {"attack": "rslad" if hard else "none", "steps": STEPS}


def expected(hard: bool, x: Tensor, loss, climbed, rng=None) -> dict[str, Tensor]:
    """The plain form's term, or the robust form's two, from losses (B,) of images."""
    if not hard:
        return {"kd": loss(x)}
    return {"kd_adv": ALPHA * loss(attack(x, climbed, rng=rng)), "kd": (1 - ALPHA) * loss(x)}


def check(objective, models: Roles, wanted: dict[str, Tensor], given=None) -> None:
    """One dictionary of terms, equal to what is wanted in values and gradients."""
    (terms,) = objective(models, given or batch())
    assert_same_terms_and_gradients(terms, wanted, list(models.student.parameters()))


@both_forms
@pytest.mark.parametrize("t", [1.0, 20.0])
@pytest.mark.parametrize("stored", [True, False])
def test_data_free_kd(hard, t, stored):
    models, x = roles(), batch().x
    s, target = models.student, models.teacher(x)
    wanted = expected(
        hard,
        x,
        lambda z: t * t * divergence(target, s(z), t),
        lambda z: divergence(target, s(z)),
    )
    given = batch(t_clean=target) if stored else batch()
    check(make_objective(data_free_kd, temperature=t, **form(hard)), models, wanted, given)


@both_forms
def test_dfad_is_the_l1_gap_of_logits(hard):
    models, x = roles(), batch().x
    s, target = models.student, models.teacher(x)
    wanted = expected(
        hard, x, lambda z: (target - s(z)).abs().sum(1) / 5, lambda z: divergence(target, s(z))
    )
    check(make_objective(dfad, **form(hard)), models, wanted)


@both_forms
def test_dfhl_rs_reads_nothing_but_the_label_of_uncertain_images(hard):
    models, rng = roles(), torch.Generator().manual_seed(4)
    s, x = models.student, batch().x
    x = x + 0.001 * torch.randn(x.shape, generator=rng, dtype=x.dtype)
    state = rng.get_state()
    for _ in range(4):
        x = x.detach().clone().requires_grad_()
        log_p = log_probabilities(s(x))
        (-(log_p.exp() * log_p)).sum().backward(inputs=[x])
        x = (x.detach() + 0.05 * x.grad.sign()).clamp(0, 1)
    label = models.teacher(x).argmax(1)
    options = {"strong_augment": False, "entropy_steps": 4, "entropy_step": 0.05}
    ours = make_objective(dfhl_rs, **options, **form(hard))
    scaled = nn.Sequential(models.teacher, Scaled(3.0))
    for target in (models.teacher, scaled):
        after = torch.Generator()
        after.set_state(state)
        wanted = expected(hard, x, *[lambda z: ce(s(z), label)] * 2, rng=after)
        check(ours, Roles(s, {"target": target}), wanted)


class Scaled(nn.Module):
    """Logits times a number: other outputs, the same label."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.by = by

    def forward(self, z: Tensor) -> Tensor:
        return self.by * z


@both_forms
def test_dfard_like_climbs_in_temperature(hard):
    models, x = roles(), batch().x
    s, target, t = models.student, models.teacher(x), torch.tensor(2.5, dtype=torch.float64)
    wanted = expected(
        hard,
        x,
        lambda z: 2.5**2 * divergence(target, s(z), 2.5),
        lambda z: divergence(target, s(z)),
    )
    ours = make_objective(dfard_like, temperature=2.5, rate=0.7, **form(hard))
    check(ours, models, wanted)
    t.requires_grad_()
    a, b = (log_probabilities(z.detach() / t) for z in (target, s(x)))
    (t**2 * (a.exp() * (a - b)).sum(1)).mean().backward()
    torch.testing.assert_close(ours.t, (t + 0.7 * t.grad).detach(), **EXACT)
    for rate, end in ((1e9, {1.0, 10.0}), (-1e9, {1.0, 10.0})):
        ours = make_objective(dfard_like, temperature=2.5, rate=rate, **form(False))
        list(ours(models, batch()))
        assert ours.t.item() in end


class Convolutional(nn.Module):
    """Two resolutions, the first of which ends in a sum of two branches."""

    def __init__(self, seed: int, widths: tuple[int, int]) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.first = nn.Conv2d(3, widths[0], 3, 1, 1)
        self.second = nn.Conv2d(widths[0], widths[1], 2, 2)
        self.fc = nn.Linear(widths[1], 5)
        for weight in self.parameters():
            weight.data = 0.4 * torch.randn(weight.shape, generator=rng, dtype=torch.float64)

    def stages(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first = self.first(x)
        return first, self.second(first)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.stages(x)[1].mean((2, 3)))


def plain_attention(x: Tensor) -> Tensor:
    """Normalised mean squared activation of each position."""
    energy = (x**2).sum(1).flatten(1) / x.shape[1]
    return energy / (energy**2).sum(1, keepdim=True).sqrt()


@both_forms
def test_zskt_adds_the_attention_gap(hard):
    models = Roles(Convolutional(1, (2, 3)), {"t": Convolutional(2, (4, 6)).requires_grad_(False)})
    s, x = models.student, batch().x
    target = models.teacher(x)

    def loss(z: Tensor) -> Tensor:
        return divergence(target, s(z))

    check(make_objective(zskt, **form(hard)), models, expected(hard, x, loss, loss))
    wanted = expected(hard, x, loss, loss)
    gap = torch.zeros(6, dtype=torch.float64)
    for ours, theirs in zip(s.stages(x), models.teacher.stages(x), strict=True):
        squared = (plain_attention(ours) - plain_attention(theirs)) ** 2
        gap = gap + squared.sum(1) / squared.shape[1]
    check(
        make_objective(zskt, attention=250.0, **form(hard)),
        models,
        wanted | {"attention": 250 * gap},
    )


def test_networks_without_a_common_resolution_have_no_attention_gap():
    with (
        collect_attention_maps(nn.Conv2d(3, 2, 3)) as one,
        collect_attention_maps(nn.Conv2d(3, 2, 2)) as two,
    ):
        nn.Identity()
    with pytest.raises(RetortError, match="share no resolution"):
        attention_gap(one, two)


def test_hooks_leave_with_the_block():
    network = Convolutional(1, (2, 3))
    with pytest.raises(ZeroDivisionError), collect_attention_maps(network):
        1 / 0  # noqa: B018
    assert all(not module._forward_hooks for module in network.modules())


def pair() -> Roles:
    """A student with DERD's two teachers."""
    teachers = {"natural": Network(2), "robust": Network(3)}
    return Roles(Network(1), {r: t.requires_grad_(False) for r, t in teachers.items()})


def discrepant(models: Roles, x: Tensor, steps: int, step: float, weight: float) -> Tensor:
    """x_d by a loop of its own."""
    natural, robust = models.teachers["natural"], models.teachers["robust"]
    label = natural(x).argmax(1)
    for _ in range(steps):
        x = x.detach().clone().requires_grad_()
        p, q = (log_probabilities(t(x)).exp() for t in (natural, robust))
        ((p - q).abs().sum(1) + weight * ce(natural(x), label)).sum().backward(inputs=[x])
        x = (x.detach() + step * x.grad.sign()).clamp(0, 1)
    return x


def regulariser(weights: list[Tensor], kind: str) -> Tensor:
    """SGA's scalar without its factor: ||r * theta||, or r . theta."""
    rng = torch.Generator().manual_seed(4)
    products = [torch.randn(p.shape, generator=rng, dtype=p.dtype) * p for p in weights]
    if kind == "decay":
        return sum((v**2).sum() for v in products) ** 0.5
    return sum(v.sum() for v in products)


@pytest.mark.parametrize("sga", ["decay", "additive"])
def test_derd_s_terms_and_merged_gradient(sga):
    models, x = pair(), batch().x
    s = models.student
    ours = derd.Objective(steps=2, step=0.03, lambda_d=0.5, lambda_rob=3.0, tau=0.2, sga=sga)
    x = discrepant(models, x, 2, 0.03, 0.5)
    wanted = {
        "natural": divergence(models.teachers["natural"](x), s(x)),
        "robust": 3 * divergence(models.teachers["robust"](x), s(x)),
        "sga": (0.2 * regulariser([p for p in s.parameters() if p.ndim > 1], sga)).expand(6),
    }
    check(ours, models, wanted)
    (terms,) = ours(models, batch())
    params = list(s.parameters())
    grads = {
        k: list(torch.autograd.grad(v.mean(), params, retain_graph=True, materialize_grads=True))
        for k, v in terms.items()
    }
    merged, facts = ours.combine(grads, params)
    flat = {k: torch.cat([g.flatten() for g in grad]) for k, grad in grads.items()}
    one, two = flat["natural"], flat["robust"]
    inner = one @ two
    cosine = inner / (one @ one).sqrt() / (two @ two).sqrt()
    if inner < 0:
        one, two = one - inner / (two @ two) * two, two - inner / (one @ one) * one
    together = torch.cat([g.flatten() for g in merged])
    torch.testing.assert_close(together, one + two + flat["sga"], **EXACT)
    torch.testing.assert_close(facts["cosine"], cosine, **EXACT)


@pytest.mark.parametrize("module", [data_free_kd, dfad, dfard_like, dfhl_rs, zskt])
def test_a_step_beyond_the_radius_is_refused(module):
    with pytest.raises(ValueError, match="swapped"):
        make_objective(module, eps=2 / 255, step=8 / 255)
