"""Learning rates by hand, the moving average, the optimisers."""

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pipeline.config.recipe import Recipe
from pipeline.training.optim import (
    compute_learning_rate,
    make_averaged_model,
    make_optimizer,
    update_average,
)

RATES = [
    ({"schedule": "constant"}, 0.9, 1.0),
    ({"schedule": "step"}, 0.49, 1.0),
    ({"schedule": "step"}, 0.5, 0.1),
    ({"schedule": "step"}, 0.75, 0.01),
    ({"schedule": "step", "milestones": (0.2,), "gamma": 0.5}, 0.3, 0.5),
    ({"schedule": "cosine"}, 0.0, 1.0),
    ({"schedule": "cosine"}, 0.5, 0.5),
    ({"schedule": "cosine", "warmup": 0.2}, 0.1, 0.5),
    ({"schedule": "cosine", "warmup": 0.2}, 0.6, 0.5),
    ({"schedule": "cosine", "cosine_from": 0.5}, 0.4, 1.0),
    ({"schedule": "cosine", "cosine_from": 0.5}, 0.75, 0.5),
    ({"schedule": "cosine", "cosine_from": 0.5, "warmup": 0.2}, 0.1, 0.5),
    ({"schedule": "cosine", "cosine_from": 0.5, "warmup": 0.2}, 0.3, 1.0),
    ({"schedule": "onecycle"}, 0.0, 0.1),
    ({"schedule": "onecycle"}, 0.125, 0.55),
    ({"schedule": "onecycle"}, 0.25, 1.0),
    ({"schedule": "onecycle"}, 0.625, 0.5005),
    ({"schedule": "onecycle"}, 1.0, 0.001),
]


@pytest.mark.parametrize(("fields", "progress", "rate"), RATES)
def test_the_rate_by_hand(fields, progress, rate):
    assert compute_learning_rate(Recipe(lr=1.0, **fields), progress) == pytest.approx(
        rate, rel=1e-6
    )


class Counting(nn.Module):
    """A weight, a float buffer and an integer one."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2))
        self.register_buffer("mean", torch.zeros(2))
        self.register_buffer("tokens", torch.zeros(2, dtype=torch.int64))


def test_the_average_follows_floats_and_copies_integers():
    model = Counting()
    average = make_averaged_model(Recipe(ema=0.9), model)
    update_average(average, model, 0.9, is_first=True)
    with torch.no_grad():
        model.weight += 1
        model.mean += 1
        model.tokens += 49407
    update_average(average, model, 0.9, is_first=False)
    assert average.module.weight.tolist() == pytest.approx([0.1, 0.1])
    assert average.module.mean.tolist() == pytest.approx([0.1, 0.1])
    assert average.module.tokens.tolist() == [49407, 49407]
    assert average.n_averaged == 2


def test_the_average_is_torchs_own_to_the_last_bit():
    rng = torch.Generator().manual_seed(0)
    models = [nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5)) for _ in range(4)]
    library = AveragedModel(models[0], multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=False)
    own = make_averaged_model(Recipe(ema=0.9), models[0])
    for i, model in enumerate(models):
        with torch.no_grad():
            for weight in model.parameters():
                weight.copy_(torch.randn(weight.shape, generator=rng))
        library.update_parameters(model)
        update_average(own, model, 0.9, is_first=i == 0)
    assert all(map(torch.equal, own.parameters(), library.parameters()))


def test_no_decay_is_no_average():
    assert make_averaged_model(Recipe(), Counting()) is None


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgds_first_step_by_hand(nesterov):
    """g = 1 + wd * 2 = 1.5; the first buffer is g, and Nesterov adds momentum * g once more."""
    recipe = Recipe(lr=0.1, momentum=0.5, weight_decay=0.25, nesterov=nesterov)
    weight = nn.Parameter(torch.tensor([2.0]))
    weight.grad = torch.ones(1)
    make_optimizer(recipe, [weight]).step()
    assert weight.item() == pytest.approx(2 - 0.1 * (2.25 if nesterov else 1.5))


def test_adamws_first_step_by_hand():
    weight = nn.Parameter(torch.tensor([2.0]))
    weight.grad = torch.ones(1)
    make_optimizer(Recipe(optimizer="adamw", lr=0.1, weight_decay=0.5), [weight]).step()
    assert weight.item() == pytest.approx(2 * (1 - 0.05) - 0.1, rel=1e-6)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_biases_and_scales_may_be_left_without_decay(optimizer):
    """No gradient: a weight of 2 shrinks by lr * wd * 2 = 0.1, a bias stays."""
    weight, bias, scale = (nn.Parameter(torch.full(shape, 2.0)) for shape in ((1, 1), (1,), ()))
    for parameter in (weight, bias, scale):
        parameter.grad = torch.zeros_like(parameter)
    recipe = Recipe(optimizer=optimizer, lr=0.1, weight_decay=0.5, decay_biases=False)
    make_optimizer(recipe, [weight, bias, scale]).step()
    assert weight.item() == pytest.approx(1.9)
    assert bias.item() == scale.item() == 2
    make_optimizer(recipe, [bias]).step()  # no group is empty
    assert bias.item() == 2
