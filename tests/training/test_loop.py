"""The training loop: one optimiser step, kept weights, stops and resumed runs."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import nn

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Roles
from pipeline.core.seeding import make_generator
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.errors import RetortError
from pipeline.models.classifier import initialise_classifier
from pipeline.objectives import derd, natural, pgd_at
from pipeline.training import loop
from pipeline.training.loop import fit
from pipeline.training.state import CheckpointSettings, TrainingResult
from pipeline.training.validation import ValidationSplit
from tests.helpers.plain import make_objective

SMALL = {"epochs": 2, "batch": 8, "lr": 0.05, "augment": "none", "schedule": "onecycle"}


def images(count: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    rng = make_generator("loop")
    x = torch.randint(0, 256, (count, 3, 16, 16), generator=rng, dtype=torch.uint8)
    return x, torch.arange(count) % 4


def student() -> nn.Module:
    return initialise_classifier("resnet8-s2-w8", 4, [0.5] * 3, [0.25] * 3, 0)


def run(path: Path, objective=None, network=None, **changes) -> tuple[nn.Module, TrainingResult]:
    """The student and the result of a training on a few random images."""
    recipe = Recipe(**{**SMALL, **changes})
    x, y = images()
    schedule = BatchSchedule(recipe.epochs, recipe.batch, 0, recipe.augment)
    roles = Roles(network or student())
    robust = recipe.select_on != "last"
    watched = ValidationSplit(x[:8], y[:8], robust, 0)
    source = DatasetSource(x, y, schedule)
    fitted = fit(
        roles, objective or natural.Objective(), source, recipe, CheckpointSettings(path), watched
    )
    return roles.student, fitted


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_accumulated_parts_give_the_whole_batchs_step_without_batchnorm(tmp_path):
    plain = nn.Sequential(nn.Flatten(), nn.Linear(768, 4)).double()

    class Double(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = plain

        def forward(self, x):
            return self.layers(x.double())

    start = {k: v.clone() for k, v in plain.state_dict().items()}
    whole, _ = run(tmp_path, network=Double())
    expected = weights(whole).clone()
    plain.load_state_dict(start)
    parts, _ = run(tmp_path / "parts", network=Double(), accumulate=4)
    torch.testing.assert_close(weights(parts), expected, atol=1e-9, rtol=0)


@pytest.mark.parametrize("bf16", ["none", "inner", "outer", "both"])
def test_each_part_of_a_batch_says_how_its_attack_is_rounded(bf16, tmp_path):
    found = []

    class Seen(natural.Objective):
        def __call__(self, roles, batch):
            found.append(batch.attack_dtype)
            yield from super().__call__(roles, batch)

    run(tmp_path, objective=Seen(), bf16=bf16, accumulate=2)
    assert set(found) == {torch.bfloat16 if bf16 in ("inner", "both") else None}


def test_chosen_epochs_are_kept_and_differ(tmp_path):
    model, fitted = run(tmp_path, keep_epochs=(1, 2))
    assert set(fitted.kept_weights) == {"epoch-1", "epoch-2"}
    last = fitted.kept_weights["epoch-2"]
    assert all(torch.equal(v, last[k]) for k, v in model.state_dict().items())
    assert not torch.equal(
        fitted.kept_weights["epoch-1"]["network.fc.weight"], last["network.fc.weight"]
    )


def test_selection_exports_the_best_and_keeps_the_last(tmp_path, monkeypatch):
    scores = iter([0.9, 0.1])

    def measure(self, model):
        return {"val_clean": 0.5, "val_robust": next(scores)}

    monkeypatch.setattr(ValidationSplit, "measure_accuracy", measure)
    model, fitted = run(tmp_path, select_on="val", keep_epochs=(1, 2))
    first, last = fitted.kept_weights["epoch-1"], fitted.kept_weights["epoch-2"]
    assert all(torch.equal(v, first[k]) for k, v in model.state_dict().items())
    assert all(torch.equal(v, fitted.kept_weights["last"][k]) for k, v in last.items())


def test_selection_measures_pgd(tmp_path):
    _, fitted = run(tmp_path, select_on="val")
    assert all(0 <= r["val_robust"] <= r["val_clean"] <= 1 for r in fitted.history)


def test_divergence_stops_with_the_batch_saved_and_the_weights_untouched(tmp_path):
    @dataclass(frozen=True)
    class Exploding:
        def needs(self):
            return ("label",)

        def __call__(self, roles, batch):
            yield {"boom": roles.student(batch.x).sum(1) * float("inf")}

    network = student()
    before = weights(network).clone()
    with pytest.raises(RetortError, match=r"term 'boom' is not finite at epoch 1, step 0.*lower"):
        run(tmp_path, objective=Exploding(), network=network)
    assert (tmp_path / "diverged.safetensors").exists()
    assert torch.equal(weights(network), before)


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9},
        {"optimizer": "adamw"},
        {"schedule": "cosine", "warmup": 0.2},
        {"schedule": "step", "nesterov": True},
        {"bf16": "both", "channels_last": True},
        {"clip_grad": 1.0},
        {"compile": "eager"},
    ],
    ids=str,
)
def test_every_recipe_trains_and_moves_the_weights(tmp_path, changes):
    before = weights(student())
    model, fitted = run(tmp_path, objective=make_objective(pgd_at, steps=1), **changes)
    assert len(fitted.history) == 2
    assert weights(model).isfinite().all()
    assert not torch.equal(weights(model), before)


def test_a_compiled_student_is_saved_under_plain_names(tmp_path):
    model, _ = run(tmp_path, compile="eager")
    assert set(model.state_dict()) == set(student().state_dict())


def test_a_stop_saves_and_the_next_run_ends_bit_for_bit(tmp_path, monkeypatch):
    whole, first = run(tmp_path / "whole", ema=0.9)
    steps = {"left": 5}
    update = loop.take_optimizer_step

    def counted(training, batch):
        update(training, batch)
        steps["left"] -= 1
        if steps["left"] == 0:
            signal_self()

    monkeypatch.setattr(loop, "take_optimizer_step", counted)
    with pytest.raises(SystemExit) as stop:
        run(tmp_path / "cut", ema=0.9)
    assert stop.value.code == 143
    resumed, second = run(tmp_path / "cut", ema=0.9)
    assert torch.equal(weights(resumed), weights(whole))
    assert second.history == first.history


def signal_self() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGTERM)


def test_combined_gradients_reach_the_optimiser(tmp_path):
    @dataclass(frozen=True)
    class Two:
        def __call__(self, roles, batch):
            logits = roles.student(batch.x)
            yield {"one": logits.square().mean(1), "two": -logits.sum(1)}

        def combine(self, grads, params):
            return derd.harmonise_gradients(grads["one"], grads["two"]), {
                "pairs": torch.tensor(2.0)
            }

    _, fitted = run(tmp_path, objective=Two())
    assert fitted.history[0]["pairs"] == 2.0
