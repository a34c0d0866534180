"""MTARD's balance of its two losses, and the scale of its scripts."""

import pytest
import torch

from pipeline.core.batch import Roles
from pipeline.objectives import mtard
from tests.helpers.plain import EXACT, STEPS, Network, batch, divergence, make_objective
from tests.objectives.test_values_data_driven import plain_mtard


@pytest.fixture
def pair() -> Roles:
    """A student and its two teachers."""
    robust, natural = (Network(seed).eval().requires_grad_(False) for seed in (2, 3))
    return Roles(Network(1).train(), {"robust": robust, "natural": natural})


def test_mtards_balance_by_hand():
    objective = mtard.Objective()
    first = objective.update_natural_weight(torch.tensor([2.0, 1.0]).double(), 0.0)
    second = objective.update_natural_weight(torch.tensor([1.0, 1.0]).double(), 0.5)
    third = objective.update_natural_weight(torch.tensor([2.0, 0.25]).double(), 0.75)
    assert first.item() == 0.5  # both ratios are 1
    assert second.item() == pytest.approx(0.5 + 0.025 * (2 / 3 - 0.5), abs=1e-15)
    assert third.item() == pytest.approx(0.9975 * second.item() + 0.0025 * 0.2, abs=1e-15)
    assert objective.first.tolist() == [2.0, 1.0]
    again = mtard.Objective()
    again.load_state_dict(objective.state_dict())
    losses = torch.tensor([1.5, 3.0]).double()
    assert (
        again.update_natural_weight(losses, 0.9).item()
        == objective.update_natural_weight(losses, 0.9).item()
    )
    assert mtard.Objective().weight.item() == 0.5


def test_mtard_weighs_a_step_with_the_balance_after_it(pair):
    objective = make_objective(mtard, steps=STEPS, kd_scale=0.1)
    objective.first.copy_(torch.tensor([1.0, 1.0]))
    (terms,) = objective(pair, batch())
    released = plain_mtard(pair.student, pair.teachers, batch())
    plain = {term: 20 * values.mean().item() for term, values in released.items()}
    share = plain["natural"] / (plain["natural"] + plain["robust"])
    w = 0.5 + 0.025 * (share - 0.5)
    assert terms["natural"].mean().item() == pytest.approx(0.1 * w * plain["natural"], abs=1e-9)
    assert terms["robust"].mean().item() == pytest.approx(0.1 * (1 - w) * plain["robust"], abs=1e-9)


@pytest.mark.parametrize(("classes", "factor"), [(10, 1), (100, 10)])
def test_mtards_scale_is_its_scripts_on_ten_and_on_a_hundred_classes(classes, factor):
    teacher, student = torch.randn(2, 6, classes, dtype=torch.float64)
    released = factor * (teacher.softmax(1) * (teacher.log_softmax(1) - student.log_softmax(1)))
    ours = mtard.RELEASED["kd_scale"] * divergence(teacher, student)
    torch.testing.assert_close(ours.mean(), released.mean(), **EXACT)
