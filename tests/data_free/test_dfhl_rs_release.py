"""DFHL-RS beside its released code's mechanics, written out anew: rounds, pool, queries, update."""

import math

import torch
import torchvision.transforms.functional as TF
from torch import Tensor, nn

from pipeline.core.augment import augment, strong_augment
from pipeline.core.batch import Roles
from pipeline.core.seeding import derive_seed, make_generator
from pipeline.data_free.generator_losses.dfhl_rs import Loss
from pipeline.data_free.inversion_batches import RoundRecipe, RoundSource
from pipeline.models.classifier import initialise_classifier
from pipeline.models.generator import Generator, GeneratorSize
from pipeline.objectives import dfhl_rs

SIZE, SEED, CLASSES = GeneratorSize(latent=4, channels=4, side=16), 7, 3
MADE, ITERATIONS, LR, LR_Z, SMOOTHING, WEIGHT = 6, 4, 0.01, 0.02, 0.2, 3.0


def network(seed: int) -> nn.Module:
    """A small classifier with BatchNorm whose statistics are not those of a new network."""
    model = initialise_classifier("resnet8-s2-w4", CLASSES, (0.5,) * 3, (0.25,) * 3, seed)
    model.train()
    with torch.no_grad():
        model(torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(seed)))
    return model


def make_source() -> RoundSource:
    """Our rounds in the released form; the weight is exact here and 1.303 by default."""
    loss = Loss(smoothing=SMOOTHING, balance=WEIGHT / math.log(10))
    recipe = RoundRecipe(
        epochs=2, steps=2, batch=5, pool=2 * MADE, loss=loss, classes=CLASSES, made=MADE,
        iterations=ITERATIONS, lr=LR, lr_images=LR_Z, augment="crop_flip",
    )  # fmt: skip
    return RoundSource(SIZE, recipe, SEED)


def run_released_round(generator: nn.Module, clone: nn.Module, epoch: int) -> Tensor:
    """One call of ``data_generation``: trains the generator in place; returns the best images."""
    rng = make_generator("round", SEED, epoch)
    labels = torch.randint(CLASSES, (MADE,), generator=rng)
    z = torch.randn(MADE, 4, generator=rng).requires_grad_()
    groups = [{"params": generator.parameters()}, {"params": [z], "lr": LR_Z}]
    adam = torch.optim.Adam(groups, lr=LR, betas=[0.5, 0.999])
    soft = torch.full((MADE, CLASSES), SMOOTHING / (CLASSES - 1))
    soft[torch.arange(MADE), labels] = 1 - SMOOTHING
    best, lowest = None, 1e6
    for _ in range(ITERATIONS):
        fake = generator(z)
        logits = clone(augment(fake, "crop_flip", rng))
        fit = nn.KLDivLoss(reduction="batchmean")(logits.log_softmax(1), soft)
        mean = logits.softmax(1).mean(0)
        loss = fit + WEIGHT * (mean * mean.log10()).sum()
        if loss.item() < lowest:
            lowest, best = loss.item(), fake.detach()
        adam.zero_grad()
        loss.backward(inputs=[z, *generator.parameters()])
        adam.step()
    return best


def test_rounds_go_on_with_one_generator_as_released():
    source, clone = make_source(), network(1)
    roles = Roles(clone, {"natural": network(2).eval()})
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed("round", SEED))
        generator = Generator(SIZE).train()
    plain = network(1).eval().requires_grad_(False)
    expected = []
    for epoch in (0, 1):
        next(source.iterate_batches(epoch, 0, roles))
        expected.append(run_released_round(generator, plain, epoch))
    assert len(source.pool) == 2 * MADE
    found = source.pool.images.float() / 255
    torch.testing.assert_close(found, torch.cat(expected), atol=0.51 / 255, rtol=0)
    noise = torch.randn(9, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(source.kept_generator(noise), generator(noise), atol=1e-4, rtol=0)
    assert not torch.allclose(expected[0], expected[1], atol=0.05)


def test_a_kept_generator_comes_back_from_its_state():
    source, roles = make_source(), Roles(network(1), {"natural": network(2).eval()})
    next(source.iterate_batches(0, 0, roles))
    again = make_source()
    again.load_state_dict(source.state_dict())
    for each in (source, again):
        next(each.iterate_batches(1, 0, roles))
    assert torch.equal(source.pool.images, again.pool.images)


def augment_strongly(x: Tensor, rng: torch.Generator) -> Tensor:
    """The released ``strong_aug``, with the draws of a generator in place of ``random``'s."""
    high, wide, up, mirrored, turned = torch.rand(5, generator=rng).tolist()
    part = [int(16 * (0.95 + 0.05 * u)) for u in (high, wide)]
    x = TF.resize(TF.center_crop(x, part), [16, 16], antialias=False)
    x = torch.clamp(x + torch.randn(x.shape, generator=rng, dtype=x.dtype) * 0.001, 0, 1)
    x = TF.vflip(x) if up > 0.5 else x
    x = TF.hflip(x) if mirrored > 0.5 else x
    return TF.rotate(x, [-15, 0, 15][int(3 * turned)])


def test_strong_augmentation_is_the_released_one():
    x = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    seen = set()
    for seed in range(12):
        found = strong_augment(x, torch.Generator().manual_seed(seed))
        expected = augment_strongly(x, torch.Generator().manual_seed(seed))
        torch.testing.assert_close(found, expected)
        seen.add(bool((found == 0).flatten(1).float().mean() > 0.02))
    assert seen == {False, True}  # turned and not turned


def test_a_strong_augmentation_by_hand():
    """Of a grey image nothing moves but the noise; a turn by 15 degrees blackens the corners."""
    grey = torch.full((2, 1, 32, 32), 0.5)
    for seed in range(6):
        found = strong_augment(grey, torch.Generator().manual_seed(seed))
        assert found.shape == grey.shape
        inner = found[..., 8:24, 8:24]
        assert (inner - 0.5).abs().max() < 0.006
        assert 0.0008 < inner.std() < 0.0012


def test_a_clone_learns_hard_labels_of_high_entropy_examples_as_released():
    source, clone, target = make_source(), network(1), network(2).eval().requires_grad_(False)
    roles = Roles(clone, {"natural": target})
    batch = next(source.iterate_batches(0, 0, roles))
    objective = dfhl_rs.Objective(entropy_steps=3)
    rng = torch.Generator()
    rng.set_state(batch.rng.get_state())
    (terms,) = objective(roles, batch)
    plain = network(1).eval()
    x = augment_strongly(batch.x, rng)
    x = x + 0.001 * torch.randn(x.shape, generator=rng)
    for _ in range(3):
        x = x.detach().requires_grad_()
        log_p = plain(x).log_softmax(1)
        (grad,) = torch.autograd.grad(-(log_p.exp() * log_p).sum(1).mean(), x)
        x = (x.detach() + 0.03 * grad.sign()).clamp(0, 1)
    labels = target(x).argmax(1)
    plain.train()
    expected = nn.functional.cross_entropy(plain(x), labels, reduction="none")
    torch.testing.assert_close(terms["kd"], expected, atol=1e-4, rtol=1e-4)
