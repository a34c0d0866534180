"""The auxiliary BatchNorm branch: separate statistics and affine, one set of other weights."""

import copy

import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from pipeline.models.auxiliary_batchnorm import AuxiliaryBatchNorm
from pipeline.models.classifier import build_classifier, save_classifier
from pipeline.models.loading import load_classifier

LAYERS = {1: (nn.Conv1d, nn.BatchNorm1d), 2: (nn.Conv2d, nn.BatchNorm2d)}
LAYERS[3] = (nn.Conv3d, nn.BatchNorm3d)


def images(seed: int = 0, count: int = 6) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(seed))


def small(dimensions: int = 2, seed: int = 0) -> nn.Module:
    """A nested double network with two BatchNorms of the dimension."""
    conv, norm = LAYERS[dimensions]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        block = nn.Sequential(conv(4, 4, 3), norm(4), nn.Tanh())
        net = nn.Sequential(
            conv(3, 4, 3), norm(4), nn.Tanh(), block, nn.Flatten(), nn.LazyLinear(5)
        )
        net(torch.rand(2, 3, *[6] * dimensions))
    return net.double()


def inputs(dimensions: int, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.rand(7, 3, *[6] * dimensions, generator=rng, dtype=torch.float64)


@pytest.fixture
def student() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_classifier("resnet8-s2-w8", 10, (0.5, 0.4, 0.45), (0.25, 0.2, 0.3))


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def same(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return one.keys() == two.keys() and all(torch.equal(one[key], two[key]) for key in one)


def disturb(auxiliary: AuxiliaryBatchNorm) -> None:
    """Other values than the student's, everywhere."""
    rng = torch.Generator().manual_seed(9)
    with torch.no_grad():
        for tensor in auxiliary.collect_tensors().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=rng) + 0.5)


def test_it_starts_as_a_copy_of_every_batchnorm(student):
    auxiliary = AuxiliaryBatchNorm(student.eval())
    norms = [n for n, m in student.named_modules() if isinstance(m, nn.BatchNorm2d)]
    assert len(auxiliary.layers) == len(norms) == 9
    own = student.state_dict()
    assert len(auxiliary.collect_tensors()) == 5 * len(norms)
    for name, tensor in auxiliary.collect_tensors().items():
        assert torch.equal(tensor, own[name])
        assert tensor.data_ptr() != own[name].data_ptr()
    assert torch.equal(auxiliary(student, images()), student(images()))


@pytest.mark.parametrize("dimensions", LAYERS)
@pytest.mark.parametrize("training", [True, False])
def test_the_branch_is_the_student_with_its_batchnorms_exchanged(dimensions, training):
    student = small(dimensions)
    auxiliary = AuxiliaryBatchNorm(student)
    disturb(auxiliary)
    exchanged = copy.deepcopy(student)
    exchanged.load_state_dict(student.state_dict() | auxiliary.collect_tensors())
    for module in (student, exchanged):
        module.train(training)
    x = inputs(dimensions)
    torch.testing.assert_close(auxiliary(student, x), exchanged(x), atol=1e-12, rtol=0)
    after = exchanged.state_dict()
    for name, tensor in auxiliary.collect_tensors().items():
        torch.testing.assert_close(tensor, after[name], atol=1e-12, rtol=0)


def test_statistics_follow_their_own_branch(student):
    auxiliary = AuxiliaryBatchNorm(student)
    student.train()
    before = snapshot(student), snapshot(auxiliary)
    auxiliary(student, images())
    assert same(snapshot(student), before[0])
    assert not same(snapshot(auxiliary), before[1])
    middle = snapshot(auxiliary)
    student(images(1))
    assert not same(snapshot(student), before[0])
    assert same(snapshot(auxiliary), middle)


def test_eval_mode_leaves_both_branches_alone(student):
    auxiliary = AuxiliaryBatchNorm(student.eval())
    before = snapshot(student), snapshot(auxiliary)
    auxiliary(student, images())
    student(images())
    assert same(snapshot(student), before[0])
    assert same(snapshot(auxiliary), before[1])


def test_gradients_follow_their_own_branch_and_meet_in_the_shared_weights():
    student = small()
    auxiliary = AuxiliaryBatchNorm(student.train())
    x = inputs(2)
    auxiliary(student, x).square().sum().backward()
    norm, conv = student[1], student[0]
    assert norm.weight.grad is norm.bias.grad is None
    assert all(p.grad.abs().max() > 0 for p in auxiliary.parameters() if p.ndim)
    targeted = conv.weight.grad.clone()
    student(x).square().sum().backward()
    assert norm.weight.grad.abs().max() > 0
    assert (conv.weight.grad - targeted).abs().max() > 0


def test_the_student_is_saved_with_plain_keys(student, tmp_path):
    auxiliary = AuxiliaryBatchNorm(student)
    student.train()
    auxiliary(student, images())
    keys = set(build_classifier("resnet8-s2-w8", 10, (0.5,), (0.5,)).state_dict())
    save_classifier(student, tmp_path / "model.safetensors", "resnet8-s2-w8", list("abcdefghij"))
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == keys
    loaded = load_classifier(tmp_path / "model.safetensors")
    assert torch.equal(loaded(images()), student.eval()(images()))


def test_its_state_can_be_saved_and_taken_back(student):
    first, second = AuxiliaryBatchNorm(student), AuxiliaryBatchNorm(student)
    disturb(first)
    second.load_state_dict(first.state_dict())
    assert torch.equal(first(student.eval(), images()), second(student, images()))


def test_layers_without_affine_or_statistics_are_taken_as_they_are():
    student = nn.Sequential(
        nn.BatchNorm2d(3, affine=False), nn.BatchNorm2d(3, track_running_stats=False)
    )
    auxiliary = AuxiliaryBatchNorm(student.train())
    assert set(auxiliary.collect_tensors()) == {
        "0.running_mean",
        "0.running_var",
        "0.num_batches_tracked",
        "1.weight",
        "1.bias",
    }
    auxiliary(student, images())
    assert student[0].num_batches_tracked == 0
    assert auxiliary.collect_tensors()["0.num_batches_tracked"] == 1


def test_a_student_without_batchnorm_has_one_branch():
    student = nn.Sequential(nn.Flatten(), nn.Linear(768, 4))
    auxiliary = AuxiliaryBatchNorm(student)
    assert not list(auxiliary.parameters())
    assert torch.equal(auxiliary(student, images()), student(images()))


def test_a_compiled_student_has_both_branches():
    plain = small().train()
    auxiliary = AuxiliaryBatchNorm(plain)
    disturb(auxiliary)
    compiled, twin = copy.deepcopy(plain), copy.deepcopy(auxiliary)
    compiled.compile(backend="eager")
    for seed in range(2):
        x = inputs(2, seed)
        torch.testing.assert_close(twin(compiled, x), auxiliary(plain, x), atol=1e-12, rtol=0)
        torch.testing.assert_close(compiled(x), plain(x), atol=1e-12, rtol=0)
    assert same(snapshot(compiled), snapshot(plain))
    assert same(snapshot(twin), snapshot(auxiliary))
