"""Batches cut into parts: their terms and gradients are the batch's, where a method says so."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.batch import (
    Batch,
    Roles,
    explain_whole_batch,
    needs_whole_batch,
    split_batch,
)
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.schema import build_instance, list_options
from pipeline.training.gradient_matching import GradientMatching
from pipeline.training.loop import accumulate_combined_gradients, accumulate_gradients
from tests.helpers.plain import CLASSES, Network

COUNT, PARTS = 8, 4
NAMES = list_plugin_names("objectives")
KINDS = {name: load_plugin("objectives", name).Objective for name in NAMES}
# Start noise is the batch's, since on a CPU one part's draws go on where the last part's ended.
# DAT draws twice a step, so its samples start at Q(x).
OPTIONS = {"steps": 2, "entropy_steps": 2, "start_probability": 0.0}
FORMS = [
    (name, form)
    for name, kind in KINDS.items()
    if not needs_whole_batch(kind)
    for form in (("none", "rslad") if "attack" in list_options(kind) else ("",))
]


class Grid(nn.Module):
    """A discretizer of double images: each pixel to the nearest of nine grey levels."""

    def reconstruct(self, x: Tensor) -> Tensor:
        return (x * 8).round() / 8


def make_step(
    name: str, form: str, progress: float, igdm: float = 0.0
) -> tuple[object, Roles, Batch]:
    """An objective, which may carry IGDM's term, fresh double networks, and eight images."""
    options = {key: value for key, value in OPTIONS.items() if key in list_options(KINDS[name])}
    objective = build_instance(KINDS[name], options | ({"attack": form} if form else {}))
    objective = GradientMatching(objective, igdm) if igdm else objective
    needs = objective.needs()
    wanted = [role for role in ("natural", "robust") if role in needs] or ["teacher"]
    teachers = {
        role: Network(seed).eval().requires_grad_(False) for seed, role in enumerate(wanted, 2)
    }
    roles = Roles(Network(1).train(), teachers, Grid())
    rng = torch.Generator().manual_seed(3)
    x, x_adv = torch.rand(2, COUNT, 3, 4, 4, generator=rng, dtype=torch.float64)
    t_clean, t_adv = torch.randn(2, COUNT, CLASSES, generator=rng, dtype=torch.float64)
    y, y_adv = torch.randint(0, CLASSES, (2, COUNT), generator=rng)
    fields = {"x_adv": x_adv, "y_adv": y_adv, "t_clean": t_clean, "t_adv": t_adv}
    stored = {key: value for key, value in fields.items() if key in needs}
    draws = torch.Generator().manual_seed(4)
    batch = Batch(x, y, torch.arange(COUNT), stored, progress, 0, draws)
    if hasattr(objective, "prepare"):
        objective.prepare(roles, batch)
    return objective, roles, batch


def compute_update(
    name: str, form: str, progress: float, parts: int, igdm: float = 0.0
) -> tuple[dict[str, float], list[Tensor]]:
    """The terms' values and the gradient of each parameter, as the loop accumulates them."""
    objective, roles, batch = make_step(name, form, progress, igdm)
    parameters = list(roles.student.parameters())
    training = SimpleNamespace(
        objective=objective, roles=roles, parameters=parameters, read_term=Tensor.item
    )
    accumulate = (
        accumulate_combined_gradients if hasattr(objective, "combine") else accumulate_gradients
    )
    values = accumulate(training, split_batch(batch, parts))
    return values, [p.grad for p in parameters]


@pytest.mark.parametrize("progress", [0.0, 0.5])
@pytest.mark.parametrize(("name", "form"), FORMS)
def test_four_parts_are_one_batch(name, form, progress):
    assert_parts_are_one_batch(name, form, progress)


@pytest.mark.parametrize("name", ["adaad", "rslad", "trades"])
def test_four_parts_are_one_batch_with_igdm_s_term(name):
    """The term of a part is of that part's own adversarial images."""
    values = assert_parts_are_one_batch(name, "", 0.5, igdm=20.0)
    assert values["igdm"] > 0


def assert_parts_are_one_batch(
    name: str, form: str, progress: float, igdm: float = 0.0
) -> dict[str, float]:
    """Compare terms and gradients of four parts with those of one batch; the batch's terms."""
    (values, grads), (own_values, own_grads) = (
        compute_update(name, form, progress, parts, igdm) for parts in (1, PARTS)
    )
    assert values.keys() == own_values.keys()
    for term, value in values.items():
        assert own_values[term] == pytest.approx(value, rel=0, abs=1e-10), term
    for whole, summed in zip(grads, own_grads, strict=True):
        assert whole.abs().max() > 0
        torch.testing.assert_close(summed, whole, atol=1e-10, rtol=0)
    return values


@pytest.mark.parametrize("name", NAMES)
def test_a_method_that_needs_the_whole_batch_says_why(name):
    assert bool(explain_whole_batch(KINDS[name])) == needs_whole_batch(KINDS[name])
