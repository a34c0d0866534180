"""A step's captured passes against eager ones; on a CPU a trace of operators stands for a graph."""

import copy
import logging
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pipeline.core.devices.ascent_graph import AscentGraphs
from pipeline.core.devices.pass_graph import MOST_PASSES, PassGraphs, capture_cuda_pass
from pipeline.core.losses import cross_entropy, kl_divergence
from pipeline.models.classifier import initialise_classifier
from tests.helpers.recorded import PassTracer, Tracer

LABELS = torch.arange(6) % 4
EAGER = "compile: a pass with its gradient is not captured: %s; it runs eagerly"


def network(seed: int) -> nn.Module:
    """A small network in single precision."""
    return initialise_classifier("resnet8-s2-w8", 4, (0.5,) * 3, (0.25,) * 3, seed)


def graphs() -> PassGraphs:
    """Captures by tracers."""
    return PassGraphs(
        AscentGraphs(capture=Tracer()), PassTracer(), AscentGraphs("a forward pass", Tracer())
    )


Step = Callable[[nn.Module, nn.Module, Tensor], Tensor]


def distil(student: nn.Module, teacher: nn.Module, x: Tensor) -> Tensor:
    """A loss of two of the student's passes and one of the teacher's; a third shows images."""
    with torch.no_grad():
        target = teacher(x)
        student(x.flip(0))
    return (kl_divergence(student(x), target) + kl_divergence(student(x.flip(3)), target)).mean()


def trained(passes: PassGraphs | None, step: Step, steps: int = 4, **forms) -> dict[str, Tensor]:
    """A student's state after some steps on images that differ, and its last gradients."""
    student, teacher = network(0).train(), network(1).eval().requires_grad_(False)
    layout = forms.get("layout", torch.contiguous_format)
    student, teacher = (n.to(memory_format=layout) for n in (student, teacher))
    optimizer = torch.optim.SGD(student.parameters(), lr=0.05, momentum=0.9)
    for seed in range(steps):
        x = torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        x = x.contiguous(memory_format=layout)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(
            "cpu", torch.bfloat16, forms.get("bf16", False), forms.get("cache", True)
        ):
            if passes is None:
                step(student, teacher, x).backward()
            else:
                with passes.serve(student, {"teacher": teacher}):
                    step(student, teacher, x).backward()
        optimizer.step()
    assert not {"forward"} & {*vars(student), *vars(teacher)}
    grads = {f"grad {n}": p.grad for n, p in student.named_parameters()}
    return copy.deepcopy(student.state_dict()) | grads


def assert_same(step: Step, passes: PassGraphs, **forms) -> None:
    """Captured and eager steps end with the same bits.

    Autocast's cache would sum the gradients of several passes in bf16.
    """
    found, wanted = trained(passes, step, **forms), trained(None, step, cache=False, **forms)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize(
    "forms", [{}, {"bf16": True}, {"bf16": True, "layout": torch.channels_last}], ids=str
)
def test_steps_from_graphs_end_with_the_same_bits(forms):
    passes = graphs()
    assert_same(distil, passes, **forms)
    # the first step's first pass is watched, its second is captured at once
    assert (passes.capture.captures, passes.capture.forwards, passes.capture.backwards) == (2, 7, 7)
    assert (passes.forwards.capture.captures, passes.forwards.capture.replays) == (2, 6)


def test_sums_of_gradients_in_bf16_differ_by_their_rounding_alone():
    found, wanted = (trained(p, distil, 1, bf16=True) for p in (graphs(), None))
    for name, value in wanted.items():
        if name.startswith("grad"):
            assert (found[name] - value).abs().max() <= 2**-7 * value.abs().max()


def test_a_second_backward_through_one_pass_gives_its_own_gradients():
    def step(student, teacher, x):
        logits = student(x)
        weights = list(student.parameters())
        first = torch.autograd.grad(logits[:, 0].mean(), weights, retain_graph=True)
        second = torch.autograd.grad(logits[:, 1].mean(), weights, retain_graph=True)
        gap = sum((a - b).abs().sum() for a, b in zip(first, second, strict=True))
        return gap.detach() * cross_entropy(logits, LABELS).mean()

    passes = graphs()
    assert_same(step, passes)
    assert passes.capture.backwards == 3 * passes.capture.forwards


def test_no_pass_runs_twice_in_a_step_and_what_is_beyond_stays_eager():
    def step(student, teacher, x):
        return sum(cross_entropy(student(x + i / 9), LABELS).mean() for i in range(MOST_PASSES + 2))

    passes = graphs()
    assert_same(step, passes)
    assert passes.capture.captures == MOST_PASSES
    assert passes.capture.forwards == 4 * MOST_PASSES


def test_a_backward_after_its_step_is_refused():
    student, passes, losses = network(0).train(), graphs(), []
    for _ in range(3):
        with passes.serve(student, {}):
            losses.append(student(torch.rand(6, 3, 16, 16)).mean())
    losses[-1].backward()
    with pytest.raises(RuntimeError, match="compile: graph: a backward pass comes after its step"):
        losses[-2].backward()


def hooked(student, teacher, x):
    seen = []
    handle = student.network.register_forward_hook(lambda *about: seen.append(about))
    loss = cross_entropy(student(x), LABELS).mean()
    handle.remove()
    return loss * len(seen)


def differentiated(student, teacher, x):
    z = x.clone().requires_grad_()
    logits = student(z)
    (grad,) = torch.autograd.grad(logits.sum(), z, retain_graph=True)
    return cross_entropy(logits, LABELS).mean() * grad.abs().sum().clamp(max=1)


def in_eval_mode(student, teacher, x):
    loss = cross_entropy(student.eval()(x), LABELS).mean()
    student.train()
    return loss


@pytest.mark.parametrize("step", [differentiated, in_eval_mode, hooked])
def test_these_passes_stay_eager(step):
    passes = graphs()
    assert_same(step, passes)
    assert passes.capture.captures == 0


def test_networks_that_draw_stay_eager_with_one_line(caplog):
    student, passes = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(12, 4)), graphs()
    with caplog.at_level(logging.INFO, "retort"):
        for _ in range(3):
            with passes.serve(student.train(), {}):
                student(torch.rand(6, 3, 2, 2)).mean().backward()
    assert passes.capture.captures == 0
    assert caplog.messages == [EAGER % "it draws random numbers"]


def test_a_refused_capture_leaves_statistics_alone_and_is_told_once(caplog):
    def refuse(forward, x, weights):
        forward(x)
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    passes = PassGraphs(AscentGraphs(capture=Tracer()), refuse)

    def step(student, teacher, x):
        return cross_entropy(student(x), LABELS).mean()

    with caplog.at_level(logging.INFO, "retort"):
        assert_same(step, passes)
    assert caplog.messages == [EAGER % "operation not permitted when stream is capturing"]


def test_weights_that_moved_are_captured_anew():
    student, passes = network(0).train(), graphs()
    for moves in (False, False, True, False, False):
        if moves:
            for weight in student.parameters():
                weight.data = weight.data.clone() * 2
        x = torch.rand(6, 3, 16, 16)
        twin = copy.deepcopy(student)
        with passes.serve(student, {}):
            found = student(x)
        assert torch.equal(found, twin(x))
    assert passes.capture.captures == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_repeats_the_eager_passes_on_a_card():
    student, teacher = network(0).train().cuda(), network(1).eval().requires_grad_(False).cuda()
    twin = copy.deepcopy(student)
    passes = PassGraphs(AscentGraphs(), capture_cuda_pass)
    labels = LABELS.cuda()
    for seed in range(4):
        rng = torch.Generator("cuda").manual_seed(seed)
        x = torch.rand(6, 3, 16, 16, generator=rng, device="cuda")
        for own in (student, twin):
            own.zero_grad(set_to_none=True)
            with torch.autocast("cuda", torch.bfloat16):
                if own is student:
                    with passes.serve(student, {"teacher": teacher}):
                        loss = distil(own, teacher, x) + cross_entropy(own(x), labels).mean()
                        loss.backward()
                else:
                    (distil(own, teacher, x) + cross_entropy(own(x), labels).mean()).backward()
        for (name, one), other in zip(student.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)
        with torch.no_grad():
            for one, other in zip(student.parameters(), twin.parameters(), strict=True):
                one.sub_(0.01 * other.grad)
                other.sub_(0.01 * other.grad)
    torch.testing.assert_close(dict(student.named_buffers()), dict(twin.named_buffers()))
    assert sum(map(len, passes.slots.values())) == 3
