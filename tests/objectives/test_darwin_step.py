"""What a step of DARWIN does to statistics and memory, and how ``fit`` trains its second branch."""

import weakref

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.recipe import Recipe
from pipeline.core.batch import Batch, Roles
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.models.classifier import initialise_classifier
from pipeline.objectives import darwin, darwin_lf
from pipeline.training.loop import fit
from pipeline.training.state import CheckpointSettings
from tests.helpers.plain import make_objective
from tests.objectives.test_darwin import batch, network, prepared, run

BOTH = pytest.mark.parametrize("module", [darwin, darwin_lf], ids=["darwin", "darwin_lf"])


@pytest.fixture
def roles() -> Roles:
    return Roles(network(1).train(), {"robust": network(5).eval().requires_grad_(False)})


@BOTH
def test_statistics_see_the_training_forwards_alone(module, roles):
    objective = prepared(make_objective(module, steps=3), roles)
    main, auxiliary = roles.student[1], objective.auxiliary.layers["1"]
    before = main.num_batches_tracked.item(), auxiliary.num_batches_tracked.item()
    steps = objective(roles, batch(module is darwin))
    running = main.running_mean.clone(), auxiliary.running_mean.clone()
    next(steps)
    assert torch.equal(auxiliary.running_mean, running[1])
    assert not torch.equal(main.running_mean, running[0])
    assert len(list(steps)) == 3
    assert main.num_batches_tracked == before[0] + 4
    assert auxiliary.num_batches_tracked == before[1] + 3


def test_shared_forwards_show_each_image_to_the_statistics_once(roles):
    objective = prepared(make_objective(darwin, steps=3, attack_bn="train"), roles)
    main, auxiliary = roles.student[1], objective.auxiliary.layers["1"]
    before = main.num_batches_tracked.item(), auxiliary.num_batches_tracked.item()
    run(objective, roles, batch())
    assert main.num_batches_tracked == before[0] + 5
    assert auxiliary.num_batches_tracked == before[1] + 4


class Box:
    """What a graph keeps of one tensor; detached, as a saved result would hold its own node."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()


class Meter:
    """Bytes of activations that live graphs hold, and their peak."""

    def __init__(self) -> None:
        self.now = self.peak = 0

    def add(self, size: int) -> None:
        self.now += size
        self.peak = max(self.peak, self.now)

    def pack(self, tensor: Tensor) -> Box:
        box = Box(tensor)
        self.add(tensor.nbytes)
        weakref.finalize(box, self.add, -tensor.nbytes)
        return box


def peak(objective, roles: Roles, b: Batch) -> int:
    meter = Meter()
    with torch.autograd.graph.saved_tensors_hooks(meter.pack, lambda box: box.tensor):
        run(objective, roles, b)
    assert meter.now == 0
    return meter.peak


@BOTH
@pytest.mark.parametrize("attack_bn", ["eval", "train"])
def test_memory_does_not_grow_with_the_steps(module, attack_bn, roles):
    peaks = [
        peak(prepared(make_objective(module, steps=n, attack_bn=attack_bn), roles), roles, batch())
        for n in (2, 10)
    ]
    assert peaks[1] <= 1.3 * peaks[0]


@BOTH
def test_what_cannot_be_meant_is_refused(module):
    with pytest.raises(ValueError, match="steps: 0 steps make no intermediate"):
        make_objective(module, steps=0)
    with pytest.raises(ValueError, match="gamma: 1.5 is no share"):
        module.Objective(gamma=1.5)
    with pytest.raises(ValueError, match="top_k: 0 classes part nothing"):
        darwin_lf.Objective(top_k=0)
    with pytest.raises(ValueError, match="swapped"):
        make_objective(module, eps=2 / 255, step=8 / 255)


@BOTH
def test_fit_trains_both_branches_and_leaves_a_plain_student(module, tmp_path):
    def model(seed: int):
        return initialise_classifier("resnet8-s2-w4", 3, (0.5,) * 3, (0.25,) * 3, seed)

    rng = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (18, 3, 16, 16), generator=rng, dtype=torch.uint8)
    source = DatasetSource(images, torch.arange(18) % 3, BatchSchedule(1, 6, 0))
    recipe = Recipe(epochs=1, batch=6, lr=0.1, schedule="constant", ema=0.5)
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(768, 3))
    teacher[1].weight.data = torch.randn(3, 768, generator=rng)
    roles = Roles(model(0), {"robust": teacher.eval().requires_grad_(False)})
    objective = make_objective(module, steps=2)
    history = fit(roles, objective, source, recipe, CheckpointSettings(tmp_path)).history
    assert history[0].keys() >= {"kd", "kd_adv", "iakd", "dbkd"}
    assert roles.student.state_dict().keys() == model(0).state_dict().keys()
    start = model(0).state_dict()
    for name, tensor in objective.auxiliary.collect_tensors().items():
        assert not torch.equal(tensor, start[name]), name
    for name, parameter in roles.student.named_parameters():
        assert not torch.equal(parameter, start[name]), name
