"""The equal mean of the last epochs' weights (stochastic weight averaging)."""

import pytest
import torch
from torch import nn

from pipeline.config.recipe import Recipe
from pipeline.schema import dump_section
from pipeline.training import loop
from pipeline.training.optim import average_epoch, is_averaged, make_averaged_model
from tests.training.test_loop import run, weights

FOUR = {"epochs": 4, "schedule": "constant"}


def test_the_mean_by_hand():
    model = nn.BatchNorm1d(1)
    average = make_averaged_model(Recipe(swa_from=0.5), model)
    for scale, mean in ((1.0, 0.0), (2.0, 3.0), (6.0, 6.0)):
        model.weight.data.fill_(scale)
        model.running_mean.fill_(mean)
        average_epoch(average, model)
    assert average.module.weight.item() == pytest.approx(3)
    assert average.module.running_mean.item() == pytest.approx(3)


def test_it_begins_with_the_epoch_that_reaches_the_share():
    recipe = Recipe(epochs=200, swa_from=95 / 200)
    assert [epoch + 1 for epoch in range(200) if is_averaged(recipe, epoch)][0] == 95
    assert not any(is_averaged(Recipe(epochs=4), epoch) for epoch in range(4))
    assert [is_averaged(Recipe(epochs=4, swa_from=1.0), e) for e in range(4)] == [False] * 3 + [
        True
    ]


def test_a_student_holds_the_mean_of_its_epochs(tmp_path):
    _, plain = run(tmp_path / "plain", keep_epochs=(1, 2, 3, 4), **FOUR)
    averaged, fitted = run(tmp_path / "mean", keep_epochs=(1,), swa_from=0.75, **FOUR)
    third, fourth = (plain.kept_weights[f"epoch-{n}"] for n in (3, 4))
    for name, value in averaged.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, (third[name] + fourth[name]) / 2)
    for name, value in fitted.kept_weights["epoch-1"].items():  # before the mean begins
        assert torch.equal(value, plain.kept_weights["epoch-1"][name])


def test_a_resumed_run_has_the_same_mean(tmp_path, monkeypatch):
    whole, first = run(tmp_path / "whole", swa_from=0.5, **FOUR)
    usual = loop.run_epoch

    def stop_after_three(training, request):
        if training.epoch == 3:
            loop.save_state(training)
            raise KeyboardInterrupt
        usual(training, request)

    monkeypatch.setattr(loop, "run_epoch", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", swa_from=0.5, **FOUR)
    monkeypatch.setattr(loop, "run_epoch", usual)
    resumed, second = run(tmp_path / "cut", swa_from=0.5, **FOUR)
    assert torch.equal(weights(whole), weights(resumed))
    assert first.history == second.history


def test_the_option_is_neutral_and_goes_without_ema():
    assert "swa_from" not in dump_section(Recipe())
    assert dump_section(Recipe(swa_from=0.5))["swa_from"] == 0.5
    with pytest.raises(ValueError, match="swa_from: an average already has `ema`"):
        Recipe(swa_from=0.5, ema=0.9)
