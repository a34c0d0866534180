"""Objectives with state, in the loop: prepared before the optimiser, saved, resumed."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Batch, Roles
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.data_free.generator_batches import GeneratorRecipe, GeneratorSource
from pipeline.data_free.generator_losses.derd import Loss
from pipeline.models.classifier import initialise_classifier
from pipeline.models.generator import Generator, GeneratorSize
from pipeline.objectives import darwin, gacd_like, mtard, natural
from pipeline.training.loop import fit
from pipeline.training.state import CheckpointSettings, prepare_objective
from tests.helpers.plain import make_objective

RECIPE = Recipe(epochs=2, batch=4, lr=0.01, schedule="constant", augment="none")


def roles(*teachers: str) -> Roles:
    """A fresh student and frozen teachers, with the same weights each time."""

    def model(seed: int, width: int):
        return initialise_classifier(f"resnet8-s2-w{width}", 3, (0.5,) * 3, (0.25,) * 3, seed)

    frozen = {r: model(i, 4).eval().requires_grad_(False) for i, r in enumerate(teachers)}
    return Roles(model(9, 2), frozen)


def source() -> DatasetSource:
    """A source of twelve images, with three steps in an epoch."""
    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (12, 3, 16, 16), generator=rng, dtype=torch.uint8)
    return DatasetSource(images, torch.arange(12) % 3, BatchSchedule(RECIPE.epochs, 4, 0))


class Cut(DatasetSource):
    """A source that fails in the second epoch, as in a power cut."""

    def iterate_batches(self, epoch: int, start: int, roles: Roles) -> Iterator[Batch]:
        for step, batch in enumerate(super().iterate_batches(epoch, start, roles), start):
            if (epoch, step) == (1, 2):
                raise KeyboardInterrupt
            yield batch


def state(objective, given: Roles) -> dict[str, Tensor]:
    """The tensors of an objective and its student."""
    return {**objective.state_dict(), **given.student.state_dict()}


@pytest.mark.parametrize(
    ("module", "teachers"),
    [(gacd_like, ("teacher",)), (mtard, ("natural", "robust")), (darwin, ("teacher",))],
    ids=["learns", "remembers", "has a second branch"],
)
def test_a_resumed_training_has_the_objectives_state(module, teachers, tmp_path):
    whole, given = make_objective(module, steps=1), roles(*teachers)
    fit(given, whole, source(), RECIPE, CheckpointSettings(tmp_path / "whole", interval_seconds=0))

    place = CheckpointSettings(tmp_path / "parts", interval_seconds=0)
    plain = source()
    cut = Cut(plain.images, plain.labels, plain.schedule)
    with pytest.raises(KeyboardInterrupt):
        fit(roles(*teachers), make_objective(module, steps=1), cut, RECIPE, place)
    resumed, again = make_objective(module, steps=1), roles(*teachers)
    fit(again, resumed, source(), RECIPE, place)

    expected, found = state(whole, given), state(resumed, again)
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    before = make_objective(module, steps=1)
    prepare_objective(before, given, source(), "cpu")
    learnt = before.state_dict()
    assert learnt.keys() == whole.state_dict().keys()
    assert any(not torch.equal(learnt[name], whole.state_dict()[name]) for name in learnt)


def test_preparing_leaves_a_source_that_learns_as_it_was():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Generator(GeneratorSize(8, 8, 16))
    how = GeneratorRecipe(epochs=1, loss=Loss(), steps=2, batch=4, pool=8)
    made = GeneratorSource(network, how, 0)
    given = roles("natural")
    before = made.state_dict()
    objective = gacd_like.Objective()
    prepare_objective(objective, given, made, "cpu")
    assert objective.anchor.shape == (16, 128)
    assert objective.positive.shape == (8, 128)
    after = made.state_dict()
    assert all(torch.equal(before["network"][k], after["network"][k]) for k in before["network"])
    assert after["adam"]["state"] == before["adam"]["state"] == {}
    assert len(after["images"]) == 0


def test_an_objective_without_anything_to_learn_draws_no_batch():
    class Silent:
        """A source that must not be read."""

    prepare_objective(natural.Objective(), roles(), Silent(), "cpu")
