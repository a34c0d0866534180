"""PGD: by hand, against foolbox, and without a trace on the networks."""

import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.core.losses import cross_entropy, kd_loss
from pipeline.core.pgd import (
    compute_input_gradient,
    freeze_for_attack,
    freeze_modules,
    iterate_shared_pgd,
    run_pgd,
)
from pipeline.core.threat_models import L2, Linf, Unconstrained

BALLS = [Linf(8 / 255), L2(0.5), Unconstrained()]


def network(seed: int, classes: int = 4) -> nn.Module:
    """A convolution, BatchNorm and head on (B,3,6,6), float64, in train mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(3, 5, 3),
            nn.BatchNorm2d(5),
            nn.Tanh(),
            nn.Flatten(),
            nn.Linear(80, classes),
        )
    return net.double()


def images(n: int = 5, seed: int = 3) -> Tensor:
    """Images with many saturated pixels."""
    rng = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 3, 6, 6, generator=rng, dtype=torch.float64)
    return (1.6 * x - 0.3).clamp(0, 1)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(11)


def state(*nets: nn.Module) -> list:
    """The state a network must keep: modes, requires_grad, tensors and gradients."""
    kept = []
    for net in nets:
        kept.append([m.training for m in net.modules()])
        kept.append([(p.requires_grad, p.grad) for p in net.parameters()])
        kept.append({k: v.tolist() for k, v in net.state_dict().items()})
    return kept


def test_two_steps_by_hand():
    x = torch.tensor([0.5, 0.5, 0.02]).view(1, 1, 1, 3)
    slope = torch.tensor([2.0, -1.0, -3.0]).view(1, 1, 1, 3)
    path: list[Tensor] = []
    end = run_pgd(
        x,
        lambda z: (z * slope).flatten(1).sum(1),
        Linf(0.05),
        steps=2,
        step_size=0.03,
        start="clean",
        iterates=path,
    )
    torch.testing.assert_close(path[0].flatten(), torch.tensor([0.53, 0.47, 0.0]))
    torch.testing.assert_close(end.flatten(), torch.tensor([0.55, 0.45, 0.0]))
    assert len(path) == 2
    assert torch.equal(path[1], end)


@pytest.mark.parametrize("start", ["clean", "gauss", "uniform"])
def test_no_steps_return_the_start(start):
    x = images()
    end = run_pgd(x, lambda z: z.sum(), Linf(0.1), steps=0, step_size=0.1, start=start, rng=rng())
    noise = torch.randn(x.shape, generator=rng(), dtype=x.dtype)
    starts = {
        "clean": x,
        "gauss": (x + 0.001 * noise).clamp(0, 1),
        "uniform": Linf(0.1).sample(x, rng()),
    }
    assert torch.equal(end, starts[start])
    given_start = run_pgd(x, lambda z: z.sum(), Linf(0.1), steps=0, step_size=0.1, start=end)
    assert torch.equal(given_start, end)


@pytest.mark.parametrize("ball", BALLS, ids=str)
@given(seed=st.integers(0, 2**31), sign=st.sampled_from([-1, 1]))
def test_every_iterate_is_feasible(ball, seed, sign):
    net, x, path = network(0).eval(), images(seed=seed), []
    y = torch.arange(5) % 4
    with freeze_modules(net):
        end = run_pgd(
            x,
            lambda z: cross_entropy(net(z), y),
            ball,
            steps=4,
            step_size=0.02,
            start="gauss",
            rng=rng(),
            sign=sign,
            iterates=path,
        )
    assert len(path) == 4
    assert torch.equal(path[-1], end)
    assert not end.requires_grad
    for z in path:
        torch.testing.assert_close(ball.project(z, x), z, atol=1e-12, rtol=0)


def test_ascent_climbs_and_descent_falls():
    net, x, y = network(0).eval(), images(), torch.arange(5) % 4

    def loss(z: Tensor) -> Tensor:
        return cross_entropy(net(z), y)

    with freeze_modules(net):
        up, down = (
            run_pgd(x, loss, L2(0.5), steps=5, step_size=0.1, start="clean", sign=sign)
            for sign in (1, -1)
        )
        assert (loss(up) > loss(x)).all()
        assert (loss(down) < loss(x)).all()


def test_saturated_pixels_still_move():
    x = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    slope = torch.tensor([1.0, -1.0]).view(1, 1, 1, 2)
    end = run_pgd(
        x, lambda z: (z * slope).flatten(1).sum(1), Linf(0.1), steps=3, step_size=0.1, start="clean"
    )
    torch.testing.assert_close(end.flatten(), torch.tensor([0.1, 0.9]))


def test_the_attack_leaves_no_trace():
    student, teacher, x = network(0).train(), network(1).eval(), images()
    before = state(student, teacher)
    kept = x.clone()
    with freeze_for_attack(student, teacher, bn="eval"):
        run_pgd(
            x,
            lambda z: kd_loss(student(z), teacher(z)),
            Linf(0.1),
            steps=3,
            step_size=0.05,
            start="gauss",
            rng=rng(),
        )
    assert state(student, teacher) == before
    assert torch.equal(x, kept)


def test_without_frozen_parameters_still_get_no_gradient():
    net, x = network(0).eval(), images()
    loss = lambda z: cross_entropy(net(z), torch.zeros(5, dtype=torch.long))  # noqa: E731
    run_pgd(x, loss, Linf(0.1), steps=2, step_size=0.05, start="clean")
    assert all(p.grad is None for p in net.parameters())


def test_attack_bn_train_moves_the_students_statistics_alone():
    student, teacher, x = network(0).train(), network(1).eval(), images()
    before, others = student[1].running_mean.clone(), state(teacher)
    with freeze_for_attack(student, teacher, bn="train"):
        assert student[1].training
        assert not any(p.requires_grad for p in student.parameters())
        run_pgd(
            x,
            lambda z: kd_loss(student(z), teacher(z)),
            Linf(0.1),
            steps=2,
            step_size=0.05,
            start=x + 0,
        )
    assert not torch.equal(student[1].running_mean, before)
    assert student[1].num_batches_tracked == 2
    assert state(teacher) == others


def test_frozen_restores_mixed_states_even_after_an_error():
    net = network(0).train()
    net[1].eval()
    net[4].bias.requires_grad_(False)
    before = state(net)
    with pytest.raises(KeyError), freeze_modules(net):  # noqa: PT012
        assert not any(m.training for m in net.modules())
        assert not any(p.requires_grad for p in net.parameters())
        raise KeyError
    assert state(net) == before
    with freeze_for_attack(net, bn="train"):
        assert [m.training for m in net.modules()] == before[0]
    assert state(net) == before


def inner_gradients(teacher: nn.Module, student: nn.Module, z: Tensor) -> tuple[Tensor, Tensor]:
    """Input gradients of AdaAD's and of RSLAD's inner loss at z."""
    with freeze_modules(student, teacher):
        target = teacher(z)
        both = compute_input_gradient(lambda v: kd_loss(student(v), teacher(v)), z)
        one = compute_input_gradient(lambda v: kd_loss(student(v), target), z)
    return both, one


def test_adaads_gradient_runs_through_the_teacher():
    both, one = inner_gradients(network(1), network(0), images())
    assert (both - one).norm() > 0.1 * one.norm()


def test_a_constant_teacher_makes_adaads_gradient_rslads():
    teacher = network(1)
    nn.init.zeros_(teacher[4].weight)
    both, one = inner_gradients(teacher, network(0), images())
    assert one.norm() > 0
    torch.testing.assert_close(both, one, atol=1e-14, rtol=0)


def test_equal_networks_give_no_loss_and_no_gradient():
    student, teacher, x = network(0).eval(), network(0).eval(), images()
    both, _ = inner_gradients(teacher, student, x)
    torch.testing.assert_close(both, torch.zeros_like(x), atol=1e-14, rtol=0)
    assert torch.equal(kd_loss(student(x), teacher(x)), torch.zeros(5, dtype=x.dtype))


@pytest.mark.parametrize("sign", [+1, -1])
def test_shared_forwards_make_the_same_iterates_and_can_be_trained_on(sign):
    net, y, path = network(1), torch.tensor([0, 1, 2, 3, 0]), []
    settings = {"steps": 4, "step_size": 2 / 255, "start": "gauss", "sign": sign}
    with freeze_for_attack(net, bn="train"):
        run_pgd(
            images(),
            lambda z: cross_entropy(net(z), y),
            BALLS[0],
            rng=rng(),
            iterates=path,
            **settings,
        )
    shared = iterate_shared_pgd(
        images(), net, lambda s: cross_entropy(s, y), BALLS[0], rng=rng(), **settings
    )
    for (z, logits), expected in zip(shared, path, strict=True):
        assert torch.equal(z, expected)
        assert not z.requires_grad
        assert torch.equal(logits, net(z))
        net.zero_grad()
        logits.square().sum().backward()
        found = net[0].weight.grad.clone()
        net.zero_grad()
        net(z).square().sum().backward()
        torch.testing.assert_close(found, net[0].weight.grad)


def test_a_gradient_is_rounded_as_it_is_asked_whatever_surrounds_it():
    net, x = network(0).eval().float(), images().float()
    dtypes = []

    def loss(z: Tensor) -> Tensor:
        dtypes.append(net(z).dtype)
        return z.flatten(1).sum(1)

    compute_input_gradient(loss, x, torch.bfloat16)
    compute_input_gradient(loss, x)
    with torch.autocast("cpu", torch.bfloat16):
        compute_input_gradient(loss, x)
    run_pgd(x, loss, Linf(0.1), steps=1, step_size=0.1, start="clean", dtype=torch.bfloat16)
    assert dtypes == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]


def test_foolboxs_l2_pgd_takes_the_same_steps():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # foolbox's imports warn of the libraries they wrap
        import foolbox

    net, x, y = network(0).eval(), images(), torch.arange(5) % 4
    attack = foolbox.attacks.L2PGD(abs_stepsize=0.1, steps=7, random_start=False)
    with freeze_modules(net):
        model = foolbox.PyTorchModel(net, (0, 1), device="cpu")
        theirs = attack(model, x, y, epsilons=0.4)[0]
        ours = run_pgd(
            x, lambda z: cross_entropy(net(z), y), L2(0.4), steps=7, step_size=0.1, start="clean"
        )
    torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0)
