"""Rounds of optimisation: what they keep, what they draw anew, what the batches hold."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.batch import Roles
from pipeline.core.seeding import derive_seed, make_generator
from pipeline.data_free.inversion_batches import RoundRecipe, RoundSource
from pipeline.data_free.teacher_view import GeneratedBatch
from pipeline.errors import RetortError
from pipeline.models.generator import Generator, GeneratorSize

SIZES = GeneratorSize(latent=4, channels=2, side=8)


@dataclass
class Watched:
    """Mean brightness times a factor for each iteration; records its inputs."""

    factors: tuple[float, ...]
    seen: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)

    def needs(self) -> tuple[str, ...]:
        return ("student",)

    def __call__(self, made: GeneratedBatch) -> dict[str, Tensor]:
        factor = self.factors[len(self.seen) % len(self.factors)]
        self.seen.append(made.x.detach().clone())
        self.labels.append(made.y)
        assert made.logits is None
        return {"bright": factor * (1 + made.student(made.x).flatten(1).mean(1))}


def recipe(loss, **more) -> RoundRecipe:
    usual = {"epochs": 2, "steps": 3, "batch": 5, "pool": 12, "classes": 3, "iterations": 3}
    return RoundRecipe(**{**usual, "loss": loss, "made": 6, **more})


def roles() -> Roles:
    def never(x: Tensor) -> Tensor:
        raise AssertionError("this loss does not ask the teacher")

    teacher = nn.Module()
    teacher.features = never
    return Roles(nn.Identity(), {"natural": teacher})


@pytest.mark.parametrize("of", ["generator", "pixels"])
@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_images_of_the_best_iteration_join_the_pool(of, best):
    factors = [1.0, 1.0, 1.0]
    factors[best] = 0.1
    loss = Watched(tuple(factors))
    source = RoundSource(SIZES, recipe(loss, of=of), 0)
    batches = list(source.iterate_batches(0, 0, roles()))
    assert (len(loss.seen), len(batches), len(source.pool)) == (3, 3, 6)
    torch.testing.assert_close(source.pool.images / 255, loss.seen[best], atol=0.003, rtol=0)
    pool = {tuple(image.flatten().tolist()) for image in source.pool.images}
    for batch in batches:
        assert batch.x.shape == (5, 3, 8, 8)
        assert batch.y is None
        assert batch.stored == {}
        assert all(tuple((x * 255).round().byte().flatten().tolist()) in pool for x in batch.x)


def test_labels_are_given_and_stay_during_a_round():
    loss = Watched((1.0,))
    source = RoundSource(SIZES, recipe(loss, made=300), 0)
    next(source.iterate_batches(0, 0, roles()))
    first, *others = loss.labels
    assert torch.bincount(first, minlength=3).min() > 70
    assert all(torch.equal(first, other) for other in others)


def test_a_round_begins_with_a_fresh_generator_whatever_came_before():
    loss = Watched((1.0,))
    source = RoundSource(SIZES, recipe(loss, lr=0.1, lr_images=0.1), 7)
    for epoch in (0, 1):
        next(source.iterate_batches(epoch, 0, roles()))
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed("round", 7, 1))
        network = Generator(SIZES).train()
    rng = make_generator("round", 7, 1)
    torch.randint(3, (6,), generator=rng)
    start = torch.randn(6, 4, generator=rng)
    torch.testing.assert_close(loss.seen[3], network(start).detach())
    assert loss.seen[5].mean() < loss.seen[3].mean()
    assert not torch.allclose(loss.seen[0], loss.seen[3])


@pytest.mark.parametrize(("of", "lr", "lr_images"), [("pixels", 0, 0.1), ("generator", 0.1, 0)])
def test_each_part_has_its_own_rate(of, lr, lr_images):
    loss = Watched((1.0,))
    source = RoundSource(SIZES, recipe(loss, of=of, lr=lr, lr_images=lr_images), 0)
    next(source.iterate_batches(0, 0, roles()))
    assert loss.seen[2].mean() < loss.seen[0].mean()
    still = replace(source.recipe, lr=0, lr_images=0, loss=(loss := Watched((1.0,))))
    next(RoundSource(SIZES, still, 0).iterate_batches(0, 0, roles()))
    torch.testing.assert_close(loss.seen[2], loss.seen[0])


def test_a_pool_alone_is_drawn_from_once_rounds_have_stopped():
    loss = Watched((1.0,))
    source = RoundSource(SIZES, recipe(loss), 0)
    next(source.iterate_batches(0, 0, roles()))
    silent = RoundSource(SIZES, recipe(loss, learns=False), 1)
    silent.load_state_dict(source.state_dict())
    list(silent.iterate_batches(0, 0, roles()))
    assert len(loss.seen) == 3
    assert torch.equal(silent.pool.images, source.pool.images)


def test_a_loss_that_is_never_finite_stops_the_job():
    source = RoundSource(SIZES, recipe(Watched((float("nan"),))), 0)
    with pytest.raises(RetortError, match=r"no loss of round 1 is finite; lower lr_generator"):
        next(source.iterate_batches(0, 0, roles()))


def test_a_generator_drawn_from_a_normal_distribution_is_cmi_s():
    loss = Watched((1.0,))
    loss.generator_start = "normal"
    source = RoundSource(GeneratorSize(64, 64, 16), recipe(loss), 0)
    network = source.draw_generator(3)
    spreads = []
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            assert layer.bias.abs().max() == 0
            centre = 1.0 if isinstance(layer, nn.BatchNorm2d) else 0.0
            spreads.append((layer.weight - centre).std().item())
    assert len(spreads) == 7
    assert spreads == pytest.approx([0.02] * 7, rel=0.35)
    assert spreads[0] == pytest.approx(0.02, rel=0.01)  # 65,536 weights
    assert torch.equal(source.draw_generator(3).start.weight, network.start.weight)


class Learning(nn.Module):
    """A loss with a weight of its own whose gradient is 1; it notes what it is shown."""

    generator_start = "fresh"

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.factors, self.shown, self.remembered = [3.0, 1.0, 2.0], [], []

    def needs(self) -> tuple[str, ...]:
        return ("student",)

    def forward(self, batch: GeneratedBatch) -> dict[str, Tensor]:
        factor = self.factors[len(self.shown) % 3]
        self.shown.append(batch)
        return {"a": (factor * (1 + batch.x.flatten(1).mean(1)).detach()) + self.weight}

    def remember(self, batch: GeneratedBatch) -> None:
        self.remembered.append(batch)


def test_a_loss_remembers_the_batch_of_the_best_iteration():
    loss = Learning()
    source = RoundSource(SIZES, recipe(loss, of="pixels", lr=0.0, augment="crop_flip"), 0)
    next(source.iterate_batches(0, 0, roles()))
    assert loss.remembered == [loss.shown[1]]
    levels = (loss.shown[1].raw * 255).round().byte()
    assert torch.equal(source.pool.images, levels)
    assert not torch.equal(loss.shown[1].raw, loss.shown[1].x)


def test_a_loss_s_own_adam_goes_on_over_rounds_with_torch_s_betas():
    """Adam on a gradient of 1 moves by lr each time; a changed gradient shows its memory."""
    loss, twin = Learning(), nn.Parameter(torch.zeros(()))
    source = RoundSource(SIZES, recipe(loss, of="pixels", lr=0.1, iterations=2), 0)
    adam = torch.optim.Adam([twin], 0.1)
    for epoch in (0, 1):
        next(source.iterate_batches(epoch, 0, roles()))
        for _ in range(2):
            twin.grad = torch.ones(())
            adam.step()
    assert loss.weight.item() == pytest.approx(twin.item(), abs=1e-6)
    (moments,) = source.loss_optimizer.state.values()
    assert moments["step"] == 4
    assert moments["exp_avg"].item() == pytest.approx(1 - 0.9**4, abs=1e-6)
    again = RoundSource(SIZES, recipe(Learning(), of="pixels", lr=0.1), 0)
    again.load_state_dict(source.state_dict())
    (moments,) = again.loss_optimizer.state.values()
    assert moments["step"] == 4
