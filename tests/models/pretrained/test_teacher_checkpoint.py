"""Teachers from checkpoints through the plan: keys by sum, not by path; the stage; refusals."""

from pathlib import Path

import numpy as np
import pytest
import torch

import pipeline
from pipeline.datasets import cifar10
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.stages import prepare_data, train_teacher
from pipeline.store.artefact import (
    Job,
    compute_sha256,
    open_artefact,
    read_job,
    write_manifest,
)
from pipeline.store.code_revisions import collect_revisions
from tests.models.pretrained.test_checkpoint_files import (
    PIXELS,
    network,
    prefixed,
    saved,
    trades,
    weights,
)
from tests.planning.test_plan import edited, keys, small

SUM = "a" * 64


def with_file(**checkpoint: object) -> dict:
    """The small experiment with its robust teacher from a file."""
    checkpoint = {"path": "robust.pt", "sha256": SUM, **checkpoint}
    teacher = {"dataset": "tiny", "model": "wrn-10-1", "checkpoint": checkpoint, "unverified": True}
    return edited("teachers.robust", teacher)


def test_the_sum_is_in_the_key_and_the_place_is_not():
    one, base = keys(with_file()), with_file()
    assert keys(with_file(path="/elsewhere/x.pt")) == one
    assert keys(with_file(sha256=SUM.upper())) == one
    assert keys({**base, "seed": 7})["teacher/robust"] == one["teacher/robust"]
    other = keys(with_file(sha256="b" * 64))
    assert {n for n in one if one[n] != other[n]} == {
        n for n in one if "robust" in n or "rslad" in n or "adaad" in n
    }
    stated = keys(with_file(mean=[0.5, 0.5, 0.5], std=[0.25, 0.25, 0.25]))
    assert stated["teacher/robust"] != one["teacher/robust"]


def test_training_code_is_not_in_the_key_of_a_file():
    plan = make_plan_from_dict(with_file())
    code = plan.artefacts[plan.refs_by_name["teacher", "robust"]].code
    assert {
        "pipeline.models.pretrained.checkpoint_files",
        "pipeline.architectures.wide_resnet",
    } <= code.keys()
    assert not {"pipeline.training.loop", "pipeline.stages.train_teacher"} & code.keys()
    assert "pipeline.models.pretrained.checkpoint_files" not in collect_revisions(
        "pipeline.stages.train_teacher"
    )


def test_normalise_moves_a_key_only_where_it_is_none():
    before = keys(small())
    assert keys(edited("students.kd.normalise", "dataset")) == before
    after = keys(edited("students.kd.normalise", "none"))
    assert {n for n in before if before[n] != after[n]} == {n for n in before if "kd" in n}


FAULTS = {
    "short sum": ({"sha256": "abc"}, "teachers.robust.checkpoint.sha256: String should match"),
    "one of two": ({"mean": [0.5, 0.5, 0.5]}, "checkpoint: give 'mean' and 'std', or neither"),
    "two colours": ({"mean": [0.5, 0.5], "std": [1, 1]}, "checkpoint.mean.2: Field required"),
    "a slip": ({"sha": "x"}, "teachers.robust.checkpoint.sha: unknown"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_bad_checkpoint_sections(fault):
    with pytest.raises(RetortError, match=FAULTS[fault][1]):
        make_plan_from_dict(with_file(**FAULTS[fault][0]))


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("teachers.robust.epochs", 3, "checkpoint: is not trained; drop objective, recipe"),
        ("teachers.robust.objective", "natural", "checkpoint: is not trained; drop objective"),
        ("teachers.robust.normalise", "none", "normalise: a checkpoint has its own"),
        ("teachers.robust.model", "vit-tiny-p5", "teachers.robust.model: model 'vit-tiny-p5'"),
        ("students.kd.normalise", "no", "students.kd.normalise: Input should be 'dataset' or"),
    ],
)
def test_what_does_not_go_with_a_checkpoint(key, value, words):
    with pytest.raises(RetortError, match=words):
        make_plan_from_dict(edited(key, value, with_file()))


@pytest.fixture
def made(tmp_path, monkeypatch):
    """A function that runs a configuration's teacher stage and returns the teacher's job."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (700, 3, 32, 32), dtype=np.uint8)
    labels = rng.integers(0, 10, 700)
    monkeypatch.setattr(cifar10, "load", lambda split, cache: (images, labels))

    def make(raw: dict, name: str = "robust") -> Job:
        plan = make_plan_from_dict({**raw, "store": str(tmp_path / "store")})
        write_job_files(plan)
        data = read_job(plan.folder_path(plan.refs_by_name["dataset", "tiny"]))
        write_manifest(data, prepare_data.run(data))
        job = read_job(plan.folder_path(plan.refs_by_name["teacher", name]))
        write_manifest(job, train_teacher.run(job))
        return job

    return make


def test_a_trades_file_becomes_a_teacher(made, tmp_path):
    donor = network("wrn-10-1", 1)
    path, digest = saved(tmp_path / "trades.pt", trades(weights(donor)))
    job = made(with_file(path=str(path), sha256=digest))
    model = pipeline.load(job.folder)
    with torch.no_grad():
        assert torch.equal(model(PIXELS), donor(PIXELS))
    assert compute_sha256(path) == digest
    assert not (job.folder / "history.json").exists()


def test_a_normalised_file_keeps_its_own_and_refuses_another(made, tmp_path):
    donor = network("wrn-10-1", 1)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    state = prefixed(weights(donor), "model.") | {"normalizer.mean": mean, "normalizer.std": std}
    path, digest = saved(tmp_path / "rb.pt", {"state_dict": state})
    model = pipeline.load(made(with_file(path=str(path), sha256=digest)).folder)
    assert torch.equal(model.mean.flatten(), mean)
    stated = {"path": str(path), "sha256": digest, "std": std.tolist()}
    same = made(with_file(mean=mean.tolist(), **stated))
    assert torch.equal(pipeline.load(same.folder).std.flatten(), std)
    with pytest.raises(RetortError, match=r"rb.pt: holds mean \[0.4, 0.5, 0.6\], checkpoint.mean"):
        made(with_file(mean=[0.5, 0.5, 0.5], **stated))


def test_a_stated_normalisation_is_used(made, tmp_path):
    path, digest = saved(tmp_path / "bare.pt", weights(network("wrn-10-1", 1)))
    about = {"mean": [0.5, 0.5, 0.5], "std": ["1/4", 0.25, 0.25]}
    model = pipeline.load(made(with_file(path=str(path), sha256=digest, **about)).folder)
    assert model.mean.flatten().tolist() == [0.5] * 3
    assert model.std.flatten().tolist() == [0.25] * 3


def test_a_file_of_other_classes_or_models_is_refused(made, tmp_path):
    path, digest = saved(tmp_path / "c100.pt", weights(network("wrn-10-1", 1, classes=100)))
    with pytest.raises(RetortError, match=r"c100.pt: 'fc.weight' is \[100, 64\], the model wants"):
        made(with_file(path=str(path), sha256=digest))
    raw = edited("teachers.robust.model", "resnet18-w4", with_file(path=str(path), sha256=digest))
    with pytest.raises(RetortError, match=r"c100.pt: 'conv1.weight' is \[16, 3, 3, 3\], the model"):
        made(raw)


def test_a_file_that_moved_is_found_at_its_new_place(made, tmp_path):
    path, digest = saved(tmp_path / "new.pt", weights(network("wrn-10-1", 1)))
    old = str(tmp_path / "old.pt")
    with pytest.raises(RetortError, match="old.pt: no such checkpoint"):
        made(with_file(path=old, sha256=digest))
    assert (made(with_file(path=str(path), sha256=digest)).folder / "manifest.json").exists()


@pytest.mark.parametrize(("normalise", "mean"), [("none", 0.0), ("dataset", 0.5)])
def test_normalise_none_is_the_identity(made, normalise, mean):
    raw = edited("teachers.natural.normalise", normalise)
    raw["teachers"]["natural"]["recipe"] = {"epochs": 1, "batch": 256, "lr": 0.01}
    model = pipeline.load(made(raw, "natural").folder)
    assert model.mean.flatten().tolist() == pytest.approx([mean] * 3, abs=0.02)
    assert (model.std.flatten().tolist() == [1.0] * 3) == (normalise == "none")


def test_the_file_s_place_is_in_the_work_order_alone(tmp_path):
    plan = make_plan_from_dict({**with_file(), "store": str(tmp_path / "store")})
    write_job_files(plan)
    job = read_job(plan.folder_path(plan.refs_by_name["teacher", "robust"]))
    assert job.run["checkpoint"] == "robust.pt"
    assert job.spec["checkpoint"] == {"sha256": SUM, "mean": None, "std": None}
    assert Path(job.run["data"]) == Path("data")


def test_a_teacher_near_chance_stops_its_stage_unless_unverified(made, tmp_path):
    path, digest = saved(tmp_path / "x.pt", weights(network("wrn-10-1", 1)))
    raw = with_file(path=str(path), sha256=digest)
    raw["teachers"]["robust"]["unverified"] = False
    with pytest.raises(RetortError, match=r"x.pt: right on .* where chance is 1.*unverified: true"):
        made(raw)
    raw["teachers"]["robust"]["unverified"] = True
    facts = open_artefact(made(raw).folder).manifest.facts
    assert facts["trial_images"] == 512
    assert facts["taken"] == ""
    assert "as configured" in facts["accuracy_read_as"]
