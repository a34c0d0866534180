"""DAD's relatives against plain derivations: loss and gradient to 1e-9, draws shared."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles
from pipeline.objectives import ard_dad, dad, dad_augment, dad_release, dat, dat_dad, kd, rslad_dad
from tests.helpers.plain import (
    CLASSES,
    EXACT,
    Network,
    assert_same_terms_and_gradients,
    batch,
    ce,
    divergence,
    make_objective,
)


class Grid(nn.Module):
    """A discretizer of double images: each pixel to the nearest of nine grey levels."""

    def reconstruct(self, x: Tensor) -> Tensor:
        return (x * 8).round() / 8


@pytest.fixture
def roles() -> Roles:
    teacher = Network(2).eval().requires_grad_(False)
    return Roles(Network(1).train(), {"clip": teacher}, Grid())


def shown() -> Batch:
    """Six images with a bank's samples and their labels."""
    rng = torch.Generator().manual_seed(8)
    x_adv = torch.rand(6, 3, 4, 4, generator=rng, dtype=torch.float64)
    return batch(x_adv=x_adv, y_adv=torch.randint(0, CLASSES, (6,), generator=rng))


def discrete(s, b, eps: float, step: float, steps: int, chance: float) -> Tensor:
    """DAT's samples, image by image: draws in the order uniform, then normal."""
    rng, made = torch.Generator().manual_seed(4), []
    noisy = torch.rand(6, generator=rng) < chance
    noise = torch.randn(b.x.shape, generator=rng, dtype=torch.float64)
    for i in range(6):
        q = (b.x[i] * 8).round() / 8
        z = (q + eps * noise[i] / noise[i].square().sum().sqrt()).clamp(0, 1) if noisy[i] else q
        for _ in range(steps):
            z = z.detach().clone().requires_grad_()
            ce(s(z[None]), b.y[i : i + 1]).sum().backward(inputs=[z])
            moved = z.detach() + step * z.grad / z.grad.square().sum().sqrt()
            length = (moved - q).square().sum().sqrt()
            z = (q + (moved - q) * min(1.0, eps / length)).clamp(0, 1)
        made.append((z * 8).round() / 8)
    return torch.stack(made).detach()


def plain_release(s, t, b):
    x, y = torch.cat([b.x, b.stored["x_adv"]]), torch.cat([b.y, b.stored["y_adv"]])
    crossed, distilled = ce(s(x), y), divergence(t(x), s(x), 4.0)
    halves = ((v[:6] + v[6:]) / 2 for v in (0.75 * crossed, 0.25 * 16 * distilled))
    return dict(zip(("ce", "kd"), halves, strict=True))


def plain_augment(s, t, b):
    return {
        "ce": 0.5 * ce(s(b.x), b.y),
        "ce_adv": 0.5 * ce(s(b.stored["x_adv"]), b.stored["y_adv"]),
    }


def plain_ard(s, t, b):
    kd_adv = 0.5 * 16 * divergence(t(b.x), s(b.stored["x_adv"]), 4.0)
    return {"ce": ce(s(b.x), b.y), "kd_adv": kd_adv}


def plain_rslad(s, t, b):
    return {
        "kd_adv": 0.3 * 9 * divergence(t(b.x), s(b.stored["x_adv"]), 3.0),
        "kd": 0.3 * 9 * divergence(t(b.x), s(b.x), 3.0),
    }


def plain_dat(s, t, b):
    return {"ce": ce(s(b.x), b.y), "ce_adv": ce(s(discrete(s, b, 0.6, 0.4, 3, 0.5)), b.y)}


def plain_dat_dad(s, t, b):
    adv = b.stored["x_adv"]
    return {
        "ce": ce(s(b.x), b.y),
        "kd": 0.5 * 16 * divergence(t(b.x), s(b.x), 4.0),
        "dad": 0.5 * 16 * divergence(t(adv), s(adv), 4.0),
        "ce_adv": 0.5 * ce(s(discrete(s, b, 0.5, 0.5, 1, 0.8)), b.y),
    }


CASES = {
    "dad_release": (dad_release.Objective(), plain_release),
    "dad_augment": (dad_augment.Objective(), plain_augment),
    "ard_dad": (ard_dad.Objective(), plain_ard),
    "rslad_dad": (rslad_dad.Objective(alpha=0.3, temperature=3.0), plain_rslad),
    "dat": (make_objective(dat, eps=0.6, step=0.4, steps=3, start_probability=0.5), plain_dat),
    "dat_dad": (make_objective(dat_dad, eps=0.5, step=0.5), plain_dat_dad),
}


@pytest.mark.parametrize("name", CASES)
def test_terms_and_gradients_match_a_plain_derivation(name, roles):
    objective, plain = CASES[name]
    (terms,) = objective(roles, shown())
    expected = plain(roles.student, roles.teacher, shown())
    assert_same_terms_and_gradients(terms, expected, list(roles.student.parameters()))


@pytest.mark.parametrize("name", ["dad_release", "ard_dad", "rslad_dad", "dat_dad"])
def test_stored_outputs_give_the_same_numbers_without_a_teacher(name, roles):
    b, (objective, _) = shown(), CASES[name]
    b.stored["t_clean"] = roles.teacher(b.x)
    b.stored["t_adv"] = roles.teacher(b.stored["x_adv"])
    (live,) = objective(roles, shown())
    (cached,) = objective(Roles(roles.student, {}, Grid()), b)
    for term, values in live.items():
        torch.testing.assert_close(cached[term], values, **EXACT)


def test_dad_s_three_forms_differ_by_what_the_paper_says(roles):
    """The released loop: 3/4 CE + 4 KL of the joint batch, so half of each of eq. 9's KL terms."""
    (eq9,), (release,) = (m.Objective()(roles, shown()) for m in (dad, dad_release))
    torch.testing.assert_close(release["kd"], (eq9["kd"] + eq9["dad"]) / 4, **EXACT)
    (baseline,) = kd.Objective()(roles, shown())
    torch.testing.assert_close(baseline["ce"], eq9["ce"] / 2, **EXACT)
    torch.testing.assert_close(baseline["kd"], eq9["kd"], **EXACT)


class Normed(nn.Module):
    """A student with BatchNorm before it."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3).double()
        self.net = Network(1)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.bn(x))


@pytest.mark.parametrize(("mode", "seen"), [("train", 3), ("eval", 2)])
def test_dat_s_attack_is_in_train_mode_as_released(mode, seen):
    student = Normed().train()
    next(make_objective(dat, attack_bn=mode)(Roles(student, {}, Grid()), batch()))
    assert student.bn.num_batches_tracked == seen
    assert student.training and student.bn.training


def test_the_released_loop_shows_both_halves_to_one_batchnorm():
    student = Normed().train()
    next(dad_release.Objective()(Roles(student, {"clip": Network(2)}), shown()))
    joint = torch.cat([shown().x, shown().stored["x_adv"]])
    expected = 0.1 * joint.mean((0, 2, 3))
    torch.testing.assert_close(student.bn.running_mean, expected, **EXACT)


@pytest.mark.parametrize("module", [dat, dat_dad])
def test_swapped_radius_and_step_are_refused(module):
    with pytest.raises(ValueError, match="swapped"):
        make_objective(module, eps=0.1, step=0.2, steps=2)


def test_soft_labels_pass_through_every_form(roles):
    """Mixup's distributions: one-hot ones give what labels give."""
    for module in (dad_release, dad_augment, dat, dat_dad):
        hard, soft = shown(), shown()
        soft.stored["y_adv"] = nn.functional.one_hot(soft.stored["y_adv"], CLASSES).double()
        soft = replace(soft, y=nn.functional.one_hot(soft.y, CLASSES).double())
        (one,), (two,) = (module.Objective()(roles, b) for b in (hard, soft))
        for term in one:
            torch.testing.assert_close(one[term], two[term], **EXACT)


def test_discrete_samples_want_a_discretizer(roles):
    with pytest.raises(ValueError, match="no discretizer"):
        next(make_objective(dat)(replace(roles, discretizer=None), batch()))
