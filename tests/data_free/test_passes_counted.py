"""What a data-free training step costs, counted in a real step of the loop (see test_cost)."""

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Roles
from pipeline.data.batches import BatchSource
from pipeline.data_free.generator_batches import GeneratorRecipe, GeneratorSource
from pipeline.data_free.inversion_batches import RoundRecipe, RoundSource
from pipeline.discovery import load_plugin
from pipeline.models.generator import GeneratorSize
from pipeline.objectives import data_free_kd, derd, dfad, dfard_like, dfhl_rs, zskt
from pipeline.planning.step_cost import CallLog, RecordedLinear, RecordedNetwork, RecordedWeight
from pipeline.training.loop import fit
from pipeline.training.state import CheckpointSettings
from tests.helpers.plain import make_objective

LATENT, SIDE = 4, 2
RECIPE = Recipe(epochs=1, batch=5, lr=0.01, schedule="constant", augment="none")


class Maker(nn.Module):
    """A generator of one counted layer."""

    def __init__(self) -> None:
        super().__init__()
        self.latent = LATENT
        rng = torch.Generator().manual_seed(7)
        self.weight = nn.Parameter(torch.randn(LATENT, 3 * SIDE**2, generator=rng))
        self.book: CallLog = []

    def forward(self, z: Tensor) -> Tensor:
        flat = RecordedLinear.apply(
            z, RecordedWeight.apply(self.weight, self.book, len(z)), self.book
        )
        return flat.sigmoid().view(-1, 3, SIDE, SIDE)


def trained(objective, source: BatchSource, place, *teachers: str) -> tuple[float, float]:
    """Passes F of the student and of all teachers, for an epoch of one step."""
    networks = {
        role: RecordedNetwork(seed).requires_grad_(False) for seed, role in enumerate(teachers, 2)
    }
    student = RecordedNetwork(1)
    fit(Roles(student, networks), objective, source, RECIPE, CheckpointSettings(place))
    return student.cost, sum(network.cost for network in networks.values())


BOTH, ONE = ("natural", "robust"), ("natural",)
HARD = {"attack": "rslad"}
STEPS = {  # generator's loss, objective, teachers: F_S, F_T of student's and generator's step
    "stage I": ("derd", data_free_kd.Objective(), ONE, 3, 2),
    "stage II": ("derd", derd.Objective(), BOTH, 5, 42 + 2),
    "stage II, + SA": ("derd", derd.Objective(expert=False, sga="none"), BOTH, 3, 41 + 2),
    "dafl": ("dafl", data_free_kd.Objective(), ONE, 3, 2),
    "dafl, robust": ("dafl", make_objective(data_free_kd, **HARD), ONE, 20 + 6, 2),
    "dfad": ("dfad", dfad.Objective(), ONE, 3 + 2, 2),
    "dfad, robust": ("dfad", make_objective(dfad, **HARD), ONE, 20 + 6 + 2, 2),
    "zskt": ("zskt", zskt.Objective(), ONE, 3 + 2, 2),
    "dfard_like": ("dfard_like", dfard_like.Objective(), ONE, 20 + 6 + 2, 2),
}


@pytest.mark.parametrize("name", STEPS)
def test_a_step_with_a_generator_costs_its_floor(name, tmp_path):
    loss, objective, teachers, of_student, of_teachers = STEPS[name]
    maker, how = (
        Maker(),
        GeneratorRecipe(1, load_plugin("generator_losses", loss).Loss(), steps=1, batch=5),
    )
    found = trained(objective, GeneratorSource(maker, how, 0), tmp_path, *teachers)
    assert found == (of_student, of_teachers)
    assert len(maker.book) == 3


def test_between_its_steps_a_generator_only_samples(tmp_path):
    loss = load_plugin("generator_losses", "dfad").Loss()
    how = GeneratorRecipe(1, loss, steps=5, batch=5, student_steps=5)
    maker = Maker()
    found = trained(dfad.Objective(), GeneratorSource(maker, how, 0), tmp_path, "natural")
    assert found == (5 * 3 + 2, 5 + 1)
    assert len(maker.book) == 5 + 2


ROUNDS = {  # n iterations, then one step: F_S and F_T
    "inversion": (data_free_kd.Objective(), lambda n: (3, 2 * n + 1)),
    "cmi": (data_free_kd.Objective(temperature=20.0), lambda n: (2 * n + 3, 1 + 4 * n + 1)),
    "dfhl_rs": (dfhl_rs.Objective(), lambda n: (2 * n + 20 + 3, 1)),
}


@pytest.mark.parametrize("name", ROUNDS)
def test_a_round_costs_its_floor(name, tmp_path):
    objective, floor = ROUNDS[name]
    loss = load_plugin("generator_losses", name).Loss()
    how = RoundRecipe(1, 1, 5, pool=9, loss=loss, classes=4, of="pixels", iterations=3, made=5)
    source = RoundSource(GeneratorSize(LATENT, 1, SIDE, doublings=1), how, 0)
    assert trained(objective, source, tmp_path, "natural") == floor(3)
