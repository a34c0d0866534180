"""IGDM's term on top of an objective: its values, its cost, and what it refuses."""

import pytest
import torch
from torch import nn

from pipeline.core.batch import Roles
from pipeline.errors import RetortError
from pipeline.objectives import adaad, adaiad, ard, derd, kd, mtard, rslad, trades
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.step_cost import PassCounter
from pipeline.training.gradient_matching import GradientMatching
from tests.helpers.graph import tiny
from tests.helpers.plain import (
    EXACT,
    STEPS,
    Network,
    assert_same_terms_and_gradients,
    attack,
    batch,
    divergence,
    make_objective,
)


@pytest.fixture
def roles() -> Roles:
    """A student and its teacher."""
    return Roles(Network(1).train(), {"teacher": Network(2).eval().requires_grad_(False)})


def test_the_term_by_hand():
    """One image, two classes: outputs 2z and z make differences of 4d and 2d."""

    class Line(torch.nn.Module):
        def __init__(self, slope: float) -> None:
            super().__init__()
            self.slope = torch.nn.Parameter(torch.tensor(slope))

        def forward(self, x):
            z = self.slope * x.flatten(1).sum(1, keepdim=True)
            return torch.cat([z, torch.zeros_like(z)], 1)

    carried = GradientMatching(make_objective(rslad), alpha=3.0)
    carried.watch_networks(Roles(Line(1.0), {"teacher": Line(2.0)}), [])
    x = torch.full((1, 1, 1, 1), 0.5)
    (found,) = carried.match(x, x + 0.25, progress=0.5).tolist()
    p, q = torch.tensor([1.0, 0.5]).sigmoid().tolist()  # 2 * 2 * 0.25 and 2 * 1 * 0.25
    by_hand = p * torch.log(torch.tensor(p / q)) + (1 - p) * torch.log(
        torch.tensor((1 - p) / (1 - q))
    )
    assert found == pytest.approx(1.5 * by_hand.item(), rel=1e-5)


def plain_term(s, t, x, adv):
    mirrored = x - (adv - x)
    return divergence(t(adv) - t(mirrored), s(adv) - s(mirrored))


def test_it_is_added_to_adaad_as_in_the_released_code(roles):
    s, t, b = roles.student, roles.teacher, batch(0.25)
    (terms,) = GradientMatching(make_objective(adaad, steps=STEPS), 20.0)(roles, batch(0.25))
    adv = attack(b.x, lambda z: divergence(t(z), s(z)))
    expected = {"kd_adv": divergence(t(adv), s(adv)), "igdm": 5 * plain_term(s, t, b.x, adv)}
    assert_same_terms_and_gradients(terms, expected, list(s.parameters()))


@pytest.mark.parametrize(
    ("module", "start", "loss"),
    [
        (rslad, "gauss", lambda s, t, b, z: divergence(t(b.x), s(z))),
        (ard, "uniform", lambda s, t, b, z: nn.functional.cross_entropy(s(z), b.labels)),
        (adaiad, "gauss", lambda s, t, b, z: divergence(t(z), s(z))),
    ],
)
def test_its_term_is_at_the_adversarial_images_of_what_carries_it(module, start, loss, roles):
    s, t, b = roles.student, roles.teacher, batch(0.25)
    (terms,) = GradientMatching(make_objective(module, steps=STEPS), 20.0)(roles, b)
    adv = attack(b.x, lambda z: loss(s, t, b, z), start)
    torch.testing.assert_close(terms["igdm"], 5 * plain_term(s, t, b.x, adv), **EXACT)


@pytest.mark.parametrize("module", [adaad, adaiad, rslad, ard, trades, mtard])
def test_it_leaves_the_terms_of_what_carries_it(module, roles):
    if module is mtard:
        other = Network(3).eval().requires_grad_(False)
        roles = Roles(roles.student, {"natural": other, "robust": roles.teacher})
    plain = make_objective(module, steps=STEPS)
    (alone,) = plain(roles, batch(0.5))
    (carried,) = GradientMatching(make_objective(module, steps=STEPS), 2.0)(roles, batch(0.5))
    assert carried.keys() - alone.keys() == {"igdm"}
    for name, values in alone.items():
        torch.testing.assert_close(carried[name], values, **EXACT)


@pytest.mark.parametrize(
    ("module", "student", "teachers"),
    [(adaad, 3, 1), (adaiad, 3, 1), (rslad, 3, 2), (ard, 3, 2), (trades, 3, 2), (mtard, 3, 1)],
)
def test_outputs_that_the_objective_computes_are_used_again(module, student, teachers):
    """Beside them S(x-d) is trained on, 3 F_S; T(x+d) and T(x-d) are forward passes."""
    names = ("robust", "natural") if module is mtard else ("teacher",)
    plain = PassCounter(names).measure_step(make_objective(module), ())
    carrying = GradientMatching(make_objective(module), 1.0)
    carried = PassCounter(names).measure_step(carrying, ())
    assert carried.student - plain.student == student
    assert sum(carried.teachers.values()) - sum(plain.teachers.values()) == teachers


def test_an_objective_with_a_state_keeps_it(roles):
    carried = GradientMatching(make_objective(mtard, steps=STEPS), 1.0)
    assert set(carried.state_dict()) == {"objective.weight", "objective.first"}
    assert carried.needs() == ("label", "natural", "robust")
    assert carried.needs_whole_batch
    assert not list(carried.parameters())
    light = GradientMatching(make_objective(rslad, steps=STEPS), 1.0)
    list(light(roles, batch(0.5)))
    assert not light.state_dict()
    assert light.needs() == ("t_clean", "teacher")


def plan(**student: object):
    """The tiny configuration's plan, with one student more."""
    raw = tiny()
    raw["students"]["new"] = {"dataset": "tiny", "model": "resnet8-s2-w8"} | student
    return make_plan_from_dict(raw)


def key_of(**student: object) -> str:
    """The key of that student."""
    found = plan(**student)
    return next(a.key for a in found.artefacts.values() if a.name.startswith("new-"))


def test_only_a_student_that_carries_it_has_another_key():
    about = {"teacher": "robust", "objective": "rslad"}
    plain, carrying = key_of(**about), key_of(**about, igdm={"alpha": 20})
    assert plain == key_of(**about, igdm=None)
    assert len({plain, carrying, key_of(**about, igdm={"alpha": 10})}) == 3


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("kd", "students.new.igdm: objective 'kd': pipeline.objectives.kd: makes no adversarial"),
        ({"derd": {}}, "students.new: objective 'derd' needs"),
    ],
)
def test_an_objective_without_adversarial_images_cannot_carry_it(objective, told):
    with pytest.raises(RetortError) as caught:
        plan(teacher="robust", objective=objective, igdm={"alpha": 1})
    assert str(caught.value).startswith(told)


def test_it_needs_a_teacher_and_a_weight():
    with pytest.raises(RetortError, match=r"students\.new\.igdm: needs one teacher"):
        plan(objective="trades", igdm={"alpha": 1})
    with pytest.raises(RetortError, match=r"students\.new\.igdm\.alpha: is missing"):
        plan(teacher="robust", objective="rslad", igdm={})


def test_gradients_that_are_merged_are_refused():
    with pytest.raises(RetortError, match="derd: merges gradients itself; drop igdm"):
        GradientMatching(derd.Objective(), 1.0)
    with pytest.raises(RetortError, match="kd: makes no adversarial images"):
        PassCounter().measure_step(GradientMatching(kd.Objective(), 1.0), ())
