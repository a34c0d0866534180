"""Teachers that train beside the student: steps, stops, parts of a batch, and their artefact."""

import hashlib
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.cli.main import main
from pipeline.config.reader import parse_config
from pipeline.config.recipe import Recipe
from pipeline.core.batch import Roles, TrainedRole, find_trained_roles
from pipeline.core.devices import placement
from pipeline.errors import RetortError
from pipeline.objectives import ciard, kd
from pipeline.planning.cost import compute_student_cost
from pipeline.planning.graph import make_plan, make_plan_from_dict
from pipeline.planning.network_cost import measure_model
from pipeline.planning.plan import write_job_files
from pipeline.training.gradient_matching import GradientMatching
from pipeline.training.loop import CHECKPOINT_FILE, fit
from pipeline.training.state import CheckpointSettings
from pipeline.training.trained_roles import TrainedTeacher
from tests.helpers import ranked
from tests.helpers.graph import tiny
from tests.helpers.plain import CLASSES, make_objective
from tests.training.test_before_training import Cut

RECIPE = Recipe(**{**ranked.SMALL, "epochs": 2, "batch": 6})  # eight steps
PARTS = {"epochs": 1, "batch": 64, "accumulate": 2}
FAST = {"steps": 1, "teacher_lr": 0.1, "teacher_momentum": 0.9}


@dataclass(frozen=True)
class Pupil:
    """An objective of which every row stands alone; its teacher learns the labels from a start."""

    start: float = 0.0

    def needs(self):
        return ("label", "teacher")

    def trains(self):
        return (TrainedRole("teacher", 0.1, start=self.start),)

    def __call__(self, roles, batch):
        target, logits = roles.teacher(batch.x), roles.student(batch.x)
        own = nn.functional.cross_entropy(target, batch.labels, reduction="none")
        yield {"kd": (logits - target.detach()).square().mean(1), "teacher": own}


def pair() -> Roles:
    """A student and two frozen teachers, with the same weights each time."""
    teachers = {"natural": ranked.teacher(1), "robust": ranked.teacher(2)}
    return Roles(ranked.network(0), teachers)


def source():
    """The images of a training without a bank."""
    return ranked.source_of(ranked.Case("ciard"), RECIPE, (), Path())


def train(folder: Path, images, roles: Roles | None = None, objective=None) -> dict[str, Tensor]:
    """Weights and statistics of student, teachers and objective after a training."""
    roles, made = roles or pair(), objective or make_objective(ciard, **FAST)
    place = CheckpointSettings(folder, interval_seconds=0)
    history = fit(roles, made, images, RECIPE, place).history
    found = ranked.left(roles, made, history)
    return {**found["student"], **found["teachers"], **found["objective"]}


def assert_equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> None:
    """The same tensors to the last bit."""
    assert one.keys() == two.keys()
    assert not [name for name in one if not torch.equal(one[name], two[name])]


def test_only_the_declared_teacher_trains_and_it_ends_frozen(tmp_path):
    roles, before = pair(), pair().teachers
    train(tmp_path, source(), roles)
    for role, network in roles.teachers.items():
        assert not network.training
        assert not any(p.requires_grad or p.grad is not None for p in network.parameters())
        old = before[role].state_dict()
        moved = {n for n, v in network.state_dict().items() if not torch.equal(v, old[n])}
        if role == "natural":
            assert not moved
        else:
            statistics = {"network.norms.0.running_mean", "network.norms.0.running_var"}
            assert statistics | set(dict(network.named_parameters())) <= moved


def test_before_its_start_a_teachers_statistics_move_and_its_weights_stay(tmp_path):
    roles, old = pair(), pair().teachers["robust"].state_dict()
    never = make_objective(ciard, steps=1, teacher_start=1.0)
    train(tmp_path, source(), roles, never)
    network = roles.teachers["robust"]
    for name, value in network.named_parameters():
        assert torch.equal(value, old[name])
    assert not torch.equal(
        network.network.norms[0].running_mean, old["network.norms.0.running_mean"]
    )


def test_its_steps_by_hand():
    """At the start 1 - 0.1 (2 + 0.5); half-way 0.75 - 0.05 (0.1 * 2.5 + 2 + 0.5 * 0.75)."""
    network = nn.Linear(1, 1, bias=False).double()
    network.weight.data.fill_(1.0)
    teacher = TrainedTeacher(TrainedRole("t", 0.1, 0.1, 0.5, start=0.5), network)
    for progress, expected in ((0.4, 1.0), (0.5, 0.75), (0.75, 0.61875)):
        teacher.prepare_step(progress)
        assert network.training
        assert network.weight.requires_grad == (progress >= 0.5)
        network.weight.grad = torch.full((1, 1), 2.0).double() if progress >= 0.5 else None
        teacher.take_step()
        assert network.weight.item() == pytest.approx(expected, abs=1e-12)


def test_a_crash_and_a_stop_end_bit_for_bit(tmp_path):
    whole = train(tmp_path / "whole", source())
    plain = source()
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "crash", Cut(plain.images, plain.labels, plain.schedule))
    with pytest.raises(SystemExit) as stop:
        train(tmp_path / "stop", ranked.Interrupted(source(), True))
    assert stop.value.code == 128 + signal.SIGTERM
    for name in ("crash", "stop"):
        saved = torch.load(tmp_path / name / CHECKPOINT_FILE)["teachers"]
        assert saved[0]["optimizer"]["state"][0]["momentum_buffer"].abs().max() > 0
        assert_equal(train(tmp_path / name, source()), whole)


def test_a_checkpoint_of_a_student_alone_holds_no_teacher(tmp_path):
    roles = Roles(ranked.network(0), {"teacher": ranked.teacher(1)})
    train(tmp_path, source(), roles, kd.Objective())
    assert torch.load(tmp_path / CHECKPOINT_FILE)["teachers"] == []


def run_pupil(folder: Path, parts: int) -> tuple[Tensor, Tensor]:
    """Weights of student and teacher, networks without BatchNorm, after batches in parts."""

    class Line(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            draws = torch.Generator().manual_seed(seed)
            self.weight = nn.Parameter(torch.randn(192, CLASSES, generator=draws).double() / 10)

        def forward(self, x):
            return x.flatten(1).double() @ self.weight

    roles = Roles(Line(0), {"teacher": Line(1).eval().requires_grad_(False)})
    shape = {"epochs": 2, "batch": 6, "augment": "none", "accumulate": parts, "clip_grad": 0.1}
    recipe = Recipe(**{**ranked.SMALL, **shape})
    images = ranked.source_of(ranked.Case("kd"), recipe, (), folder)
    fit(roles, Pupil(), images, recipe, CheckpointSettings(folder))
    return roles.student.weight.detach(), roles.teacher.weight.detach()


def test_parts_of_a_batch_give_a_teacher_the_whole_batchs_step(tmp_path):
    whole, parts = (run_pupil(tmp_path / str(count), count) for count in (1, 3))
    for one, two in zip(whole, parts, strict=True):
        torch.testing.assert_close(one, two, atol=1e-9, rtol=0)


def test_on_an_accelerator_a_bad_step_leaves_the_teacher_too(tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)
    roles, seen = Roles(ranked.network(0), {"teacher": ranked.teacher(1)}), []

    class Exploding(Pupil):
        def __call__(self, roles, batch):
            seen.append(roles.teacher.network.fc.weight.detach().clone())
            for terms in super().__call__(roles, batch):
                yield {n: v * float("inf") if len(seen) == 3 else v for n, v in terms.items()}

    with pytest.raises(RetortError, match="not finite at epoch 1, step 2"):
        fit(roles, Exploding(), source(), RECIPE, CheckpointSettings(tmp_path))
    assert not torch.equal(seen[1], seen[0])
    assert torch.equal(roles.teacher.network.fc.weight, seen[2])


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((TrainedRole("robust", 0.1),), r"test_trained_roles.*the role 'robust', which no teacher"),
        ([TrainedRole("teacher", 0.1)], "gives no tuple of TrainedRole"),
        (("teacher",), "gives no tuple of TrainedRole"),
    ],
    ids=["no such teacher", "a list", "a name"],
)
def test_what_cannot_train_is_refused(given, words, tmp_path):
    class Wrong(Pupil):
        def trains(self):
            return given

    roles = Roles(ranked.network(0), {"teacher": ranked.teacher(1)})
    with pytest.raises(RetortError, match=words):
        fit(roles, Wrong(), source(), RECIPE, CheckpointSettings(tmp_path))


def test_merged_gradients_and_igdm_go_with_no_trained_role(tmp_path):
    class Merging(Pupil):
        def combine(self, grads, params):
            return grads["kd"], {}

    roles = Roles(ranked.network(0), {"teacher": ranked.teacher(1)})
    with pytest.raises(RetortError, match=r"combine\(\) merges the student's gradients alone"):
        fit(roles, Merging(), source(), RECIPE, CheckpointSettings(tmp_path))
    with pytest.raises(RetortError, match="ciard: trains its teacher; drop igdm"):
        GradientMatching(ciard.Objective(), 1.0)
    assert find_trained_roles(kd.Objective()) == ()


def configured(**changes) -> dict:
    """The tiny configuration with a CIARD student whose teachers are one artefact."""
    raw = tiny()
    about = {"dataset": "tiny", "teachers": {"natural": "natural", "robust": "natural"}}
    about |= {"model": "resnet8-s2-w8", "objective": {"ciard": FAST}, "recipe": "tiny"}
    raw["students"]["ciard"] = about | changes
    return raw


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"igdm": {"alpha": 1}}, r"students\.ciard\.igdm: .*trains its teacher; drop igdm"),
        ({"recipe": PARTS}, r"students\.ciard\.recipe\.accumulate: .*push is a mean over some"),
        ({"teachers": {"natural": "natural"}}, "needs a teacher in the role 'robust'"),
    ],
    ids=["igdm", "parts", "one teacher"],
)
def test_what_a_plan_refuses(changes, words):
    with pytest.raises(RetortError, match=words) as refused:
        make_plan_from_dict(configured(**changes))
    assert "\n" not in str(refused.value)


def test_a_generators_teacher_does_not_train(monkeypatch):
    from pipeline.objectives import derd

    monkeypatch.setattr(
        derd.Objective, "trains", lambda self: (TrainedRole("robust", 0.1),), raising=False
    )
    with pytest.raises(
        RetortError, match=r"students\.derd\.generator: .*'robust', and a generator"
    ):
        make_plan_from_dict(tiny())


def test_a_teacher_that_is_not_given_does_not_train(monkeypatch):
    monkeypatch.setattr(
        kd.Objective, "trains", lambda self: (TrainedRole("robust", 0.1),), raising=False
    )
    with pytest.raises(
        RetortError, match=r"objective: objective 'kd' trains .* 'robust', which is"
    ):
        make_plan_from_dict(tiny())


def test_its_module_is_in_the_keys_of_students_that_train_a_teacher_alone():
    plan = make_plan_from_dict(configured())
    module = "pipeline.training.trained_roles"
    found = {a.name for a in plan.artefacts.values() if module in a.components}
    assert found == {"ciard-0"}


def test_the_teachers_own_training_is_in_the_cost():
    config = parse_config(configured())
    cost, each = compute_student_cost(config, "ciard"), measure_model(config, "natural")[0]
    # 2 F_S of the attack's step and 6 F_S; 3 F of the teacher that trains, 2 F of the other
    assert cost.flop == pytest.approx(cost.images * each * (2 + 6 + 3 + 2))


def sums(folder: Path) -> dict[str, str]:
    """The sha256 of every file of an artefact."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def test_the_stored_teacher_keeps_its_bytes(tmp_path):
    plan = make_plan(parse_config({**configured(), "store": str(tmp_path / "store")}))
    write_job_files(plan)
    folders = {key: plan.folder_path(ref) for key, ref in plan.refs_by_name.items()}
    assert main(["prepare_data", str(folders["dataset", "tiny"])]) == 0
    teacher = folders["teacher", "natural"]
    assert main(["train_teacher", str(teacher)]) == 0
    before = sums(teacher)
    assert main(["distill", str(folders["student", "ciard-0"])]) == 0
    assert sums(teacher) == before
    assert any(path.endswith("model.safetensors") for path in before)
