"""CIARD: its terms against the released code's form, its push and its gradients by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from pipeline.core.batch import Roles, TrainedRole
from pipeline.objectives import ciard
from tests.helpers.plain import (
    CLASSES,
    STEPS,
    Network,
    assert_same_terms_and_gradients,
    attack,
    batch,
    ce,
    make_objective,
)


@pytest.fixture
def pair() -> Roles:
    """A student, a natural teacher that is frozen, and a robust one that trains."""
    robust, natural = Network(2).train(), Network(3).eval().requires_grad_(False)
    return Roles(Network(1).train(), {"robust": robust, "natural": natural})


def elementwise(log_student, target, tiny: float):
    """The released kl_loss, of each row and class."""
    return -log_student * target + torch.log(target + tiny) * target


def power_of_ten(first: float, second: float, third: float) -> float:
    """The released scale_to_magnitude."""
    orders = [math.floor(math.log10(abs(v if v else 1e-7))) for v in (first, second, third)]
    return 10 ** (min(orders[:2]) - orders[2])


def released(roles: Roles, given, temperatures, tiny: float = 0.0) -> dict[str, torch.Tensor]:
    """The released losses, scalars; without the 1e-5 in its logarithms unless it is given."""
    s, t, y = roles.student, roles.teachers, given.y
    adv = attack(given.x, lambda z: ce(s(z), y))
    on_adv, robust, natural = s(adv), t["robust"](adv), t["natural"](adv)
    sides = [
        elementwise(F.log_softmax(logits, 1), F.softmax(output.detach() / hot, 1), tiny).mean()
        for logits, output, hot in (
            (on_adv, robust, temperatures[0]),
            (s(given.x), t["natural"](given.x), temperatures[1]),
        )
    ]
    wrong = (natural.argmax(1) != y).nonzero(as_tuple=True)[0]
    pushed = torch.zeros((), dtype=torch.float64)
    if len(wrong):
        soft = F.log_softmax(on_adv[wrong] / 5, 1)
        pushed = elementwise(soft, F.softmax(natural[wrong], 1), tiny).mean()
    scale = power_of_ten(sides[0].item(), sides[1].item(), pushed.item())
    own = F.cross_entropy(robust, y)
    return {"robust": sides[0], "natural": sides[1], "push": -scale * pushed, "teacher": own}


def as_rows(values: torch.Tensor, count: int) -> torch.Tensor:
    """Rows whose mean is a scalar."""
    return values.expand(count)


def take_means(terms: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Each term's batch mean as rows, which is all that the loop reads."""
    return {name: as_rows(values.mean(), len(values)) for name, values in terms.items()}


def test_its_terms_and_gradients_are_the_released_ones(pair):
    made = make_objective(ciard, steps=STEPS, kd_scale=1 / CLASSES)
    made.temperatures.copy_(torch.tensor([2.0, 3.0]))
    (terms,) = made(pair, batch())
    expected = released(pair, batch(), (2.0, 3.0))
    assert expected["push"].item() < 0
    rows = {name: as_rows(value, len(terms[name])) for name, value in expected.items()}
    assert_same_terms_and_gradients(take_means(terms), rows, list(pair.student.parameters()))


def test_the_released_codes_small_constant_changes_little(pair):
    (terms,) = make_objective(ciard, steps=STEPS, kd_scale=1 / CLASSES)(pair, batch())
    expected = released(pair, batch(), (1.0, 1.0), tiny=1e-5)
    for name, value in expected.items():
        assert terms[name].mean().item() == pytest.approx(value.item(), abs=2e-4), name


def test_the_robust_teacher_learns_its_own_loss_and_no_other(pair):
    robust = pair.teachers["robust"]
    (terms,) = make_objective(ciard, steps=STEPS)(pair, batch())
    expected = released(pair, batch(), (1.0, 1.0))
    parameters = list(robust.parameters())
    ours = torch.autograd.grad(terms["teacher"].mean(), parameters, retain_graph=True)
    theirs = torch.autograd.grad(expected["teacher"], parameters, retain_graph=True)
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
    rest = sum(terms[name].mean() for name in ("robust", "natural", "push"))
    found = torch.autograd.grad(rest, parameters, allow_unused=True, retain_graph=True)
    assert set(found) == {None}
    own = list(pair.student.parameters())
    assert set(torch.autograd.grad(terms["teacher"].mean(), own, allow_unused=True)) == {None}


def test_its_gradients_are_those_of_small_differences(pair):
    """x* = x, so that it does not move with the weights."""
    own = pair.student.head.weight
    keys = [name for name, _ in pair.student.named_parameters()]
    fixed = {name: value.detach() for name, value in pair.student.named_parameters()}
    assert keys[-1] == "head.weight"

    class Changed(torch.nn.Module):
        def __init__(self, weight):
            super().__init__()
            self.weight = weight

        def forward(self, x):
            changed = fixed | {"head.weight": self.weight}
            return torch.func.functional_call(pair.student, changed, (x,))

    def loss(weight):
        made = make_objective(ciard, steps=0, start="clean")
        (terms,) = made(Roles(Changed(weight), pair.teachers), batch())
        return sum(terms[name].mean() for name in ("robust", "natural", "push"))

    assert torch.autograd.gradcheck(loss, (own.detach().clone().requires_grad_(),))


def test_it_moves_both_temperatures_by_the_targets_entropies(pair):
    made = make_objective(ciard, steps=0, start="clean", milestones=(0.5,))
    made.temperatures.copy_(torch.tensor([2.0, 3.0]))
    (_,) = made(pair, batch(0.75))
    soft = [pair.teachers[role](batch().x) / t for role, t in (("robust", 2), ("natural", 3))]
    high, low = (torch.distributions.Categorical(logits=z).entropy().mean() for z in soft)
    step = 1e-4 if high > low else -1e-4  # after one milestone
    assert made.temperatures.tolist() == pytest.approx([2 - step, 3 + step])


def test_orders_of_magnitude_by_hand():
    """0.03 and 0.5 have the orders -2 and -1, 25 has 1; 0 counts as 1e-7."""
    losses = torch.tensor([0.03, 0.5]).double()
    found = [ciard.match_magnitude(losses, torch.tensor(v).double()).item() for v in (25.0, 0.0)]
    assert found == pytest.approx([1e-3, 1e5])
    none = torch.zeros(2).double()
    assert ciard.match_magnitude(none, torch.tensor(-0.2).double()).item() == pytest.approx(1e-6)


def test_the_push_by_hand():
    """Rows 0 and 3 are wrong: mean 2.5, order -1 of 0.25; the least of the others has -3."""
    made = ciard.Objective(push=2.0)
    gaps, wrong = torch.tensor([1.0, 2.0, 3.0, 4.0]), torch.tensor([True, False, False, True])
    losses = torch.tensor([0.03, 0.5]).double()
    weights = made.weigh_push(gaps, wrong, losses, 10)
    assert weights.tolist() == pytest.approx([0.04, 0, 0, 0.04])
    assert (weights * gaps).mean().item() == pytest.approx(2 * 0.01 * 2.5)
    none = made.weigh_push(gaps, torch.zeros(4, dtype=torch.bool), losses, 10)
    assert not none.any()


def test_without_a_wrong_answer_nothing_is_pushed(pair):
    right = batch()
    found = pair.teachers["natural"](right.x).argmax(1)
    right = type(right)(right.x, found, right.index, {}, 0.0, 0, right.rng)
    (terms,) = make_objective(ciard, steps=0, start="clean")(pair, right)
    assert not terms["push"].any()
    assert terms["robust"].isfinite().all()


def test_it_trains_the_robust_teacher_from_a_share_of_training_on():
    made = ciard.Objective()
    assert made.trains() == (TrainedRole("robust", 1e-4, 0.1, 2e-4, 1 / 6),)
    assert make_objective(ciard, teacher_lr=0.01).trains()[0].lr == 0.01
