"""The generator's losses against plain formulas, its cost, and its bit-for-bit resumption."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.batch import Roles
from pipeline.core.losses import negative_mean_entropy
from pipeline.core.seeding import make_generator
from pipeline.data_free.generator_batches import GeneratorRecipe, GeneratorSource
from pipeline.data_free.generator_losses.derd import Loss
from pipeline.data_free.replay_pool import ReplayPool
from pipeline.data_free.teacher_view import (
    GeneratedBatch,
    activation_loss,
    one_hot_loss,
    show_to_teacher,
    statistics_loss,
)
from pipeline.errors import RetortError
from pipeline.models.generator import Generator, GeneratorSize, collect_batchnorm_moments

RECIPE = GeneratorRecipe(epochs=2, loss=Loss(), steps=4, batch=6)


class Teacher(nn.Module):
    """A small network with or without BatchNorm that counts its passes."""

    def __init__(self, norm: bool = True):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2, 1)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.second = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 5, 3, 2, 1))
        self.last = nn.BatchNorm2d(5) if norm else nn.Identity()
        self.fc = nn.Linear(5, 3)
        self.forwards = self.backwards = 0

    def count(self, grad: Tensor) -> None:
        self.backwards += 1

    def features(self, x: Tensor) -> Tensor:
        self.forwards += 1
        if x.requires_grad:
            x.register_hook(self.count)
        return self.last(self.second(self.norm(self.conv(x)))).mean((2, 3))

    def head(self, features: Tensor) -> Tensor:
        return self.fc(features)


def teacher(norm: bool = True) -> Teacher:
    torch.manual_seed(3)
    network = Teacher(norm)
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    return network.eval().requires_grad_(False)


def source(recipe: GeneratorRecipe = RECIPE, seed: int = 0) -> GeneratorSource:
    torch.manual_seed(1)
    return GeneratorSource(Generator(GeneratorSize(5, 8, 16)), recipe, seed)


def shown(network: nn.Module, x: Tensor) -> GeneratedBatch:
    """Images and the teacher's outputs on them."""
    return show_to_teacher(x, torch.zeros(len(x)), network, nn.Identity(), torch.Generator())


def roles(network: nn.Module) -> Roles:
    return Roles(nn.Identity(), {"natural": network})


def tensors(state) -> list[Tensor]:
    """Every tensor in a nested state, in a fixed order."""
    if isinstance(state, Tensor):
        return [state]
    children = state.values() if isinstance(state, dict) else state
    nested = (dict, list, tuple, Tensor)
    return [t for child in children if isinstance(child, nested) for t in tensors(child)]


def test_statistics_match_a_plain_derivation():
    network = teacher().double()
    x = torch.rand(5, 3, 8, 8, dtype=torch.float64)
    with collect_batchnorm_moments(network) as moments:
        network.features(x)
    first = network.conv(x)
    second = network.second(network.norm(first))
    expected = 0.0
    for values, layer in ((first, network.norm), (second, network.last)):
        channels = values.transpose(0, 1).flatten(1)
        mean = channels.sum(1) / channels.shape[1]
        var = ((channels - mean[:, None]) ** 2).sum(1) / channels.shape[1]
        expected += ((mean - layer.running_mean) ** 2).sum().sqrt()
        expected += ((var - layer.running_var) ** 2).sum().sqrt()
    assert statistics_loss(moments).item() == pytest.approx(expected.item(), abs=1e-9)


def test_losses_match_plain_derivations():
    network, x = teacher().double(), torch.rand(6, 3, 8, 8, dtype=torch.float64)
    made = shown(network, x)
    logits, features, moments = made.logits, made.features, made.moments
    terms = Loss(oh=0.3, activation=0.2, bn=0.7, balance=4.0)(made)
    p = [[math.exp(v) / sum(map(math.exp, row)) for v in row] for row in logits.tolist()]
    mean = [sum(column) / 6 for column in zip(*p, strict=True)]
    balance = sum(q * math.log(q) for q in mean)
    expected = {
        "oh": [-0.3 * math.log(max(row)) for row in p],
        "activation": [-0.2 * sum(map(abs, row)) / 5 for row in features.tolist()],
        "balance": [4.0 * balance] * 6,
        "bn": [0.7 * statistics_loss(moments).item()] * 6,
    }
    assert set(terms) == set(expected)
    for name, values in expected.items():
        assert terms[name].tolist() == pytest.approx(values, abs=1e-9), name


def test_hand_computed_values():
    assert one_hot_loss(torch.tensor([[0.0, 0.0]])).item() == pytest.approx(math.log(2))
    assert activation_loss(torch.tensor([[1.0, -3.0]])).item() == -2
    balanced = torch.tensor([[50.0, 0.0], [0.0, 50.0]])
    assert negative_mean_entropy(balanced).item() == pytest.approx(-math.log(2))
    assert negative_mean_entropy(balanced[:1]).item() == pytest.approx(0, abs=1e-9)


def test_hooks_are_removed_even_after_an_error():
    network = teacher()
    before = [len(m._forward_pre_hooks) for m in network.modules()]
    with pytest.raises(RuntimeError, match="channels"), collect_batchnorm_moments(network):
        network.features(torch.rand(2, 5, 8, 8))
    assert [len(m._forward_pre_hooks) for m in network.modules()] == before


def test_a_teacher_without_batchnorm_drops_the_term():
    network = teacher(norm=False)
    made = shown(network, torch.rand(2, 3, 8, 8))
    terms = Loss()(made)
    assert set(terms) == {"oh", "activation", "balance"}
    assert len(list(source().iterate_batches(0, 0, roles(network)))) == 4


def test_a_layer_without_running_statistics_is_passed_over():
    network = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.BatchNorm2d(3))
    with collect_batchnorm_moments(network) as moments:
        network(torch.rand(2, 3, 4, 4))
    assert len(moments) == 1


@pytest.mark.parametrize("augment", ["none", "flip", "crop_flip"])
def test_batches_carry_their_teachers_logits_and_no_graph(augment):
    network, made = teacher(), source(replace(RECIPE, augment=augment))
    for step, batch in enumerate(made.iterate_batches(1, 0, roles(network))):
        assert batch.x.shape == (6, 3, 16, 16)
        assert batch.y is None
        assert not batch.x.requires_grad
        assert not batch.stored["t_clean"].requires_grad
        logits = network.head(network.features(batch.x))
        torch.testing.assert_close(batch.stored["t_clean"], logits)
        assert batch.index.tolist() == list(range(6))
        assert (batch.epoch, batch.progress) == (1, (4 + step) / 8)
    assert step == 3


def test_a_step_costs_one_pass_each_way_and_leaves_the_teacher_alone():
    network, made = teacher(), source()
    before, modes = copy.deepcopy(network.state_dict()), [m.training for m in network.modules()]
    forwards = []
    made.network.register_forward_hook(lambda *_: forwards.append(1))
    list(made.iterate_batches(0, 0, roles(network)))
    assert (network.forwards, network.backwards, len(forwards)) == (4, 4, 4)
    assert all(p.grad is None for p in network.parameters())
    assert all(p.grad is None for p in made.network.parameters())
    assert [m.training for m in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_trainable_teacher_in_another_role_gets_no_gradient():
    network = teacher().requires_grad_(True)
    models = Roles(nn.Identity(), {"robust": network})
    next(source(replace(RECIPE, teacher="robust")).iterate_batches(0, 0, models))
    assert all(p.grad is None for p in network.parameters())


def test_the_step_is_adam_on_the_mean_loss():
    network, made, twin = teacher(), source(), source()
    batch = next(made.iterate_batches(0, 0, roles(network)))
    z = torch.randn(6, 5, generator=make_generator("generator", 0, 0, 0))
    x = twin.network(z)
    torch.testing.assert_close(x, batch.x)
    terms = Loss()(shown(network, x))
    sum(term.mean() for term in terms.values()).backward()
    torch.optim.Adam(twin.network.parameters(), 1e-3, betas=(0.5, 0.999)).step()
    for ours, plain in zip(made.network.parameters(), twin.network.parameters(), strict=True):
        torch.testing.assert_close(ours, plain)


def test_learning_lowers_the_loss():
    network, made = teacher(), source(replace(RECIPE, steps=40, batch=16, lr=0.01))
    losses = []
    for batch in made.iterate_batches(0, 0, roles(network)):
        terms = Loss()(shown(network, batch.x))
        losses.append(sum(terms.values()).mean().item())
    assert sum(losses[-5:]) < sum(losses[:5]) - 0.5


def test_a_generator_that_does_not_learn_stays_as_it_is():
    network, made = teacher(), source(replace(RECIPE, learns=False))
    before = copy.deepcopy(made.network.state_dict())
    first, second, *_ = made.iterate_batches(0, 0, roles(network))
    assert network.backwards == 0
    assert not torch.equal(first.x, second.x)
    for name, value in made.network.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    "recipe", [RECIPE, replace(RECIPE, pool=16, replayed=5, augment="crop_flip")]
)
@pytest.mark.parametrize("cut", [1, 3])
def test_a_resumed_run_is_the_same_bit_for_bit(recipe, cut):
    network, whole, part, rest = teacher(), source(recipe), source(recipe), source(recipe)
    straight = [b for epoch in (0, 1) for b in whole.iterate_batches(epoch, 0, roles(network))]
    list(part.iterate_batches(0, 0, roles(network)))
    stream = part.iterate_batches(1, 0, roles(network))
    for _ in range(cut):
        next(stream)
    state = part.state_dict()
    list(stream)
    with torch.no_grad():
        rest.network.start.weight.zero_()
    rest.load_state_dict(state)
    resumed = list(rest.iterate_batches(1, cut, roles(network)))
    for one, other in zip(straight[4 + cut :], resumed, strict=True):
        assert torch.equal(one.x, other.x)
        assert torch.equal(one.stored["t_clean"], other.stored["t_clean"])
        assert one.progress == other.progress
        assert torch.equal(torch.rand(3, generator=one.rng), torch.rand(3, generator=other.rng))
    for one, other in zip(tensors(whole.state_dict()), tensors(rest.state_dict()), strict=True):
        assert torch.equal(one, other)


def test_a_second_run_takes_over_the_state_but_not_the_rate():
    (made := source(replace(RECIPE, lr=0.5))).load_state_dict(source().state_dict())
    assert made.optimizer.param_groups[0]["lr"] == 0.5


def test_past_images_join_the_batch_with_their_logits():
    network, made = teacher(), source(replace(RECIPE, pool=10, replayed=5))
    sizes = []
    for batch in made.iterate_batches(0, 0, roles(network)):
        sizes.append(len(batch.x))
        logits = network.head(network.features(batch.x))
        torch.testing.assert_close(batch.stored["t_clean"], logits, atol=0.01, rtol=0)
    assert (sizes, len(made.pool)) == ([6, 11, 11, 11], 10)


def test_a_full_pool_keeps_its_size_and_its_pairs():
    pool, rng = ReplayPool(5), torch.Generator().manual_seed(0)
    for value in range(9):
        x = torch.full((3, 1, 1, 1), value / 255)
        pool.add_images(x, torch.full((3, 2), float(value)), rng)
    x, logits = pool.sample_images(50, rng)
    assert (len(pool), len(x)) == (5, 50)
    torch.testing.assert_close(x.flatten() * 255, logits[:, 0])
    assert logits.max() == 8


def test_replay_without_a_pool_is_refused():
    with pytest.raises(RetortError, match=r"generator\.replayed.*generator\.pool"):
        source(replace(RECIPE, replayed=3))
