"""S(x) for BatchNorm alone: where released codes compute it although no term reads it."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.batch import Roles
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.objectives import adaad, adaiad, ard, ciard, iad, iad2, pgd_at, rslad
from pipeline.schema import build_instance, list_options
from tests.helpers.plain import EXACT, Network, batch, make_objective

WITH_SWITCH = [
    name
    for name in list_plugin_names("objectives")
    if "clean_forward" in list_options(load_plugin("objectives", name).Objective)
]
AS_RELEASED = {
    **dict.fromkeys(["adaad", "adaiad", "ard", "iad", "pgd_at", "rslad", "saad"], True),
    **dict.fromkeys(["crdnd_like", "gacd_like"], True),  # RSLAD's two terms
    "iad2": False,
}


class Seen(nn.Module):
    """A student with BatchNorm before it, which keeps what it sees in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(3).double()
        self.net = Network(1)
        self.images: list[Tensor] = []

    def features(self, x: Tensor) -> Tensor:
        if self.training:
            self.images.append(x.detach())
        return self.net.features(self.bn(x))

    def head(self, features: Tensor) -> Tensor:
        return self.net.head(features)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.features(x))


def take_step(objective) -> tuple[Seen, list[bool]]:
    """The student after a step at progress 0, and for each image it saw: was it the clean one."""
    student = Seen().train()
    wanted = [role for role in ("natural", "robust") if role in objective.needs()] or ["teacher"]
    roles = Roles(student, {role: Network(2).requires_grad_(False) for role in wanted})
    if hasattr(objective, "prepare"):
        objective.prepare(roles, batch())
        student.images.clear()
    list(objective(roles, batch()))
    return student, [torch.equal(images, batch().x) for images in student.images]


def test_the_switch_is_there_where_a_released_code_does_it():
    defaults = {
        name: list_options(load_plugin("objectives", name).Objective)["clean_forward"].default
        for name in WITH_SWITCH
    }
    assert defaults == AS_RELEASED


@pytest.mark.parametrize("shown", [True, False])
@pytest.mark.parametrize("name", WITH_SWITCH)
def test_it_shows_the_clean_images_once_or_not_at_all(name, shown):
    kind = load_plugin("objectives", name).Objective
    weight = {"alpha": 1.0} if "alpha" in list_options(kind) and name != "iad2" else {}
    objective = build_instance(kind, {"clean_forward": shown, "steps": 1} | weight)
    _, clean = take_step(objective)
    assert clean.count(True) == shown
    assert clean.count(False) == (2 if name == "saad" else 1)  # IGDM's mirrored images


@pytest.mark.parametrize("module", [pgd_at, ard, iad, adaad, adaiad, rslad, ciard])
def test_running_statistics_take_in_both_batches_in_the_released_order(module):
    """With momentum 0.1 from 0: first 0.1 m, then 0.9 of it plus 0.1 of the other mean."""
    weight = {} if module in (pgd_at, ciard) else {"alpha": 1.0}
    student, clean = take_step(make_objective(module, steps=2, **weight))
    first_is_clean = module in (adaad, adaiad, ciard)
    assert clean == [first_is_clean, not first_is_clean]
    first, last = (images.mean((0, 2, 3)) for images in student.images)
    expected = 0.9 * 0.1 * first + 0.1 * last
    torch.testing.assert_close(student.bn.running_mean, expected, **EXACT)


def test_iad2_runs_the_clean_images_only_once_introspection_begins():
    student = Seen().train()
    teachers = {role: Network(2).requires_grad_(False) for role in ("natural", "robust")}
    for progress, passes in ((0.19, 1), (0.2, 2)):
        student.images.clear()
        list(make_objective(iad2, steps=1)(Roles(student, teachers), batch(progress)))
        assert len(student.images) == passes
