"""Data-free training that is killed at any step resumes there and ends with the same bits."""

import random
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Batch, Roles
from pipeline.data.batches import BatchSource
from pipeline.data_free.session import make_source
from pipeline.models.classifier import initialise_classifier
from pipeline.objectives import data_free_kd, derd, dfad, dfard_like, dfhl_rs, zskt
from pipeline.store import checkpoint
from pipeline.training.loop import CHECKPOINT_FILE, fit
from pipeline.training.state import CheckpointSettings
from tests.helpers.plain import make_objective
from tests.helpers.specs import generator_spec

EPOCHS, STEPS = 3, 4
RECIPE = Recipe(epochs=EPOCHS, batch=6, lr=0.05, schedule="step", augment="crop_flip", ema=0.9)
SPEC = {
    **dict.fromkeys(("seed", "drawn"), 0),
    "latent": 6,
    "channels": 4,
    "image": 16,
    "steps_per_epoch": STEPS,
    "lr_generator": 1e-3,
    "weights": {},
    "pool": 20,
    "replayed": 3,
    "grids": [0, 0.5],
}
ROUNDS = {"of": "generator", "iterations": 3, "made": 8, "lr_images": 0.01}
PIXELS = {**ROUNDS, "of": "pixels"}
CASES = {  # changes to the generator's spec, and the student's objective
    "stage I": ({}, data_free_kd.Objective),
    "stage II": ({}, lambda: derd.Objective(steps=2)),
    "cmi": ({"losses": {"cmi": {"memory": 12}}, "rounds": ROUNDS}, data_free_kd.Objective),
    "inversion": ({"losses": {"inversion": {}}, "rounds": PIXELS}, data_free_kd.Objective),
    "dfard": ({"losses": {"dfard_like": {}}}, lambda: make_objective(dfard_like, steps=1)),
    "dafl": ({"losses": {"dafl": {}}, "student_steps": 3}, data_free_kd.Objective),
    "dfad": (
        {"losses": {"dfad": {}}, "student_steps": 3},
        lambda: make_objective(dfad, attack="rslad", steps=1),
    ),
    "zskt": (
        {"losses": {"zskt": {}}, "student_steps": 3, "clip_grad": 1.0},
        lambda: zskt.Objective(attention=1.0),
    ),
    "dfhl_rs": (
        {"losses": {"dfhl_rs": {}}, "rounds": ROUNDS},
        lambda: dfhl_rs.Objective(entropy_steps=1),
    ),
}


class Killed(BaseException):
    """Raised in place of a SIGKILL."""


class Cut:
    """A source that raises ``Killed`` instead of the batch after so many steps."""

    def __init__(self, source: BatchSource, steps: int) -> None:
        self.inner, self.left, self.steps = source, steps, source.steps

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        for batch in self.inner.iterate_batches(epoch, start, roles):
            if self.left == 0:
                raise Killed
            self.left -= 1
            yield batch

    def state_dict(self) -> dict:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict) -> None:
        self.inner.load_state_dict(state)


def network(seed: int) -> nn.Module:
    model = initialise_classifier("resnet8-s2-w4", 3, (0.5,) * 3, (0.25,) * 3, seed)
    model.train()
    with torch.no_grad():
        model(torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(seed)))
    return model.eval()


@pytest.fixture(scope="module")
def teachers() -> dict[str, nn.Module]:
    return {r: network(s).requires_grad_(False) for s, r in ((1, "natural"), (2, "robust"))}


def fresh(name: str, teachers: dict[str, nn.Module]) -> tuple[Roles, object, BatchSource]:
    """Roles, objective and source of a new run, which shares only frozen teachers with others."""
    more, objective = CASES[name]
    both = teachers if "robust" in objective().needs() else {"natural": teachers["natural"]}
    about = {"classes": ["a", "b", "c"], "mean": [0.5] * 3}
    source = make_source(generator_spec({**SPEC, **more}), about, RECIPE, 5, "cpu")
    return Roles(network(9), both), objective(), source


def tensors(state) -> list[Tensor]:
    """Every tensor and number in a nested state, in a fixed order."""
    if isinstance(state, dict):
        return [t for key in state for t in tensors(state[key])]
    if isinstance(state, list | tuple):
        return [t for child in state for t in tensors(child)]
    return [torch.as_tensor(state)] if isinstance(state, Tensor | int | float) else []


def end(
    name: str, teachers: dict[str, nn.Module], place: CheckpointSettings, killed: int = -1
) -> list[Tensor]:
    """All tensors at the end of a run that was killed once, before step ``killed``."""
    if killed >= 0:
        roles, objective, source = fresh(name, teachers)
        with pytest.raises(Killed):
            fit(roles, objective, Cut(source, killed), RECIPE, place)
        assert (checkpoint.load(place.state_folder / CHECKPOINT_FILE, "cpu") is None) == (
            killed == 0
        )
    roles, objective, source = fresh(name, teachers)
    fitted = fit(roles, objective, source, RECIPE, place)
    own = objective.state_dict() if isinstance(objective, nn.Module) else {}
    left = [roles.student.state_dict(), source.state_dict(), own, fitted.history]
    return tensors(left)


@pytest.fixture(scope="module")
def undisturbed(teachers, tmp_path_factory) -> dict[str, list[Tensor]]:
    return {
        name: end(name, teachers, CheckpointSettings(tmp_path_factory.mktemp("whole")))
        for name in CASES
    }


KILLS = {"stage I": 5, "stage II": 5, "cmi": 3, "inversion": 2, "dfard": 2}
KILLS |= dict.fromkeys(("dafl", "dfad", "zskt", "dfhl_rs"), 2)
MOMENTS = [
    (name, step)
    for name, times in KILLS.items()
    for step in random.Random(name).sample(range(EPOCHS * STEPS), times)
]


@pytest.mark.parametrize(("name", "step"), MOMENTS)
def test_a_killed_run_ends_with_the_same_bits(name, step, teachers, undisturbed, tmp_path):
    found = end(name, teachers, CheckpointSettings(tmp_path, interval_seconds=0), step)
    assert len(found) == len(undisturbed[name]) > 60
    for one, other in zip(found, undisturbed[name], strict=True):
        assert torch.equal(one, other)


def test_what_is_compared_holds_all_that_a_source_learns(teachers):
    for name in CASES:
        roles, _, source = fresh(name, teachers)
        next(source.iterate_batches(0, 0, roles))
        state = source.state_dict()
        assert len(state["images"]) > 0
        assert set(state["grids"]) == {0}
        assert ("adam" in state) == ("rounds" not in CASES[name][0])
        assert (len(state["loss"]) > 0) == (name in ("cmi", "dfard"))
    assert len(fresh("cmi", teachers)[2].loss.past) == 0
