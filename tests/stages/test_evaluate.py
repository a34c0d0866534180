"""The evaluation stage: every outcome by sample, chunks that a second run does not repeat."""

import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from pipeline.attacks import clean
from pipeline.core.attack_protocol import AttackPoint
from pipeline.core.seeding import make_generator
from pipeline.data.splits import SPLITS, Split, save_split
from pipeline.errors import RetortError
from pipeline.models.classifier import MODEL_FILE, initialise_classifier, save_classifier
from pipeline.report.outcomes import Study, read_outcomes
from pipeline.stages import evaluate
from pipeline.store.artefact import Job, write_manifest
from tests.helpers.points import EPS, pgd

STEP = round(2 / 255, 9)
COUNT, CLASSES = 10, ("a", "b", "c")
SUITE = [
    {"clean": {"chunk": 4}},
    {"pgd": {"steps": 1, "eps": [0.0, 8 / 255], "n_eval": 6, "chunk": 4}},
]


def artefact(folder: Path, kind: str, files: list[str], facts: dict) -> Path:
    """A finished artefact over files that lie in its folder."""
    job = Job(folder, kind, kind, "k", {}, {}, {})
    write_manifest(job, job.build_manifest(files, facts))
    return folder


@pytest.fixture
def job(tmp_path) -> Job:
    """A job file over ten random images and a network with random weights."""
    rng = make_generator("evaluate")
    images = torch.randint(0, 256, (COUNT, 3, 16, 16), generator=rng, dtype=torch.uint8)
    split = Split(images, torch.arange(COUNT) % 3)
    data, model = tmp_path / "data", tmp_path / "model"
    for name in SPLITS:
        save_split(data / f"{name}.safetensors", split)
    facts = {"classes": CLASSES, "mean": [0.5] * 3, "std": [0.2] * 3, "shape": [3, 16, 16]}
    artefact(data, "dataset", [f"{name}.safetensors" for name in SPLITS], facts)
    model.mkdir()
    network = initialise_classifier("resnet8-s2-w8", 3, [0.5] * 3, [0.2] * 3, 0)
    save_classifier(network, model / MODEL_FILE, "resnet8-s2-w8", CLASSES)
    artefact(model, "student", [MODEL_FILE], {})
    spec = {"attacks": SUITE, "seed": 0, "device": "cpu"}
    (tmp_path / "out").mkdir()
    return Job(
        tmp_path / "out", "evaluation", "e", "k", spec, {"model": model, "dataset": data}, {}
    )


def outcomes(job: Job) -> list[dict]:
    return pq.read_table(job.folder / evaluate.OUTCOMES_FILE).to_pylist()


def test_every_sample_has_one_record_an_attack_and_radius(job):
    manifest = evaluate.run(job)
    rows = outcomes(job)
    by_point: dict[tuple, list] = {}
    for row in rows:
        point = row["attack"], row["steps"], round(row["eps"], 6)
        by_point.setdefault(point, []).append(row["index"])
    assert by_point == {
        ("clean", None, 0.0): list(range(10)),
        ("pgd", 1, 0.0): list(range(6)),
        ("pgd", 1, round(8 / 255, 6)): list(range(6)),
    }
    assert all(row["label"] == row["index"] % 3 for row in rows)
    right = [row["label"] == row["prediction"] for row in rows if row["attack"] == "clean"]
    first, *others = manifest.facts["accuracy"]
    accuracy = pytest.approx(sum(right) / 10)
    assert first == {"attack": "clean", "eps": 0.0, "images": 10, "accuracy": accuracy}
    assert [(r["steps"], r["eps"], r["images"]) for r in others] == [(1, 0, 6), (1, 8 / 255, 6)]


def test_a_row_s_part_is_a_corruption_or_a_name():
    names = ["fog-3", "sketch", "fog-6"]
    split = Split(torch.zeros(4, 3, 2, 2), torch.zeros(4), pa.chunked_array([["x", *names]]))
    own = AttackPoint("clean")
    assert evaluate.by_row(own, split, range(1, 4)) == [
        AttackPoint("clean", corruption="fog", severity=3),
        AttackPoint("clean", part="sketch"),
        AttackPoint("clean", part="fog-6"),
    ]
    snow = AttackPoint("corruptions", corruption="snow", severity=1)
    first, *_ = evaluate.by_row(snow, split, range(1, 4))
    assert first == replace(snow, part="fog-3")
    whole = Split(split.images, split.labels)
    assert evaluate.by_row(own, whole, range(2)) == [own, own]


def test_a_transfer_states_its_surrogate_by_key_and_the_report_by_name(job, tmp_path):
    surrogate = tmp_path / "abc123"
    shutil.copytree(job.inputs["model"], surrogate)
    job.inputs["surrogate"] = surrogate
    evaluate.run(job)
    assert {row["surrogate"] for row in outcomes(job)} == {"abc123"}
    found = read_outcomes(job.folder / evaluate.OUTCOMES_FILE)
    assert {point.surrogate for point in found} == {"abc123"}
    study = Study({}, {"teacher/rn34": "teacher/abc123"})
    assert {study.name_surrogate(point).surrogate for point in found} == {"rn34"}


def test_outcomes_are_read_back_by_point(job):
    evaluate.run(job)
    found = read_outcomes(job.folder / evaluate.OUTCOMES_FILE)
    assert list(found) == [AttackPoint("clean"), pgd(1, 0.0, STEP), pgd(1, EPS, STEP)]
    rows = [row for row in outcomes(job) if row["eps"] > 0]
    attacked = found[pgd(1, EPS, STEP)]
    assert attacked.index.tolist() == [row["index"] for row in rows] == list(range(6))
    assert attacked.correctness.tolist() == [row["label"] == row["prediction"] for row in rows]


def test_a_killed_evaluation_keeps_its_chunks(job, monkeypatch):
    evaluate.run(job)
    expected = outcomes(job)
    (job.folder / evaluate.OUTCOMES_FILE).unlink()
    (job.state_folder / "00-clean-000008.parquet").unlink()
    seen, attack = [], clean.Attack.__call__

    def counted(self, model, x, y, seed, judge):
        seen.append(len(x))
        return attack(self, model, x, y, seed, judge)

    monkeypatch.setattr(clean.Attack, "__call__", counted)
    evaluate.run(job)
    assert seen == [2]
    assert outcomes(job) == expected


def test_a_stop_is_granted_between_chunks(job, monkeypatch):
    import os
    import signal

    attack = clean.Attack.__call__

    def stopping(self, model, x, y, seed, judge):
        found = attack(self, model, x, y, seed, judge)
        os.kill(os.getpid(), signal.SIGTERM)
        return found

    monkeypatch.setattr(clean.Attack, "__call__", stopping)
    with pytest.raises(SystemExit) as stop:
        evaluate.run(job)
    assert stop.value.code == 143
    assert [p.name for p in sorted(job.state_folder.glob("*.parquet"))] == [
        "00-clean-000000.parquet"
    ]
    assert not (job.folder / evaluate.OUTCOMES_FILE).exists()


def test_square_is_added_where_gradients_mislead(job, monkeypatch):
    sound = evaluate.check_model_outputs(job, evaluate.load_attacked_and_judge(job)[1])
    attacks = evaluate.list_attacks(job, sound)
    assert [name for name, _ in attacks] == ["clean", "pgd"]
    for change in ({"rounded": 1.0}, {"random": 1.0}, {"zero_gradient": 1.0}):
        *_, (name, square) = evaluate.list_attacks(job, replace(sound, **change))
        assert (name, square.eps, square.n_eval, square.queries) == ("square", 8 / 255, 6, 1000)
    job.inputs["surrogate"] = job.inputs["model"]
    assert len(evaluate.list_attacks(job, replace(sound, rounded=1.0))) == 2


def test_clean_images_have_confidences_and_the_manifest_what_outputs_look_like(job):
    manifest = evaluate.run(job)
    rows = outcomes(job)
    assert all((row["confidence"] is None) == (row["attack"] != "clean") for row in rows)
    assert all(1 / 3 <= row["confidence"] <= 1 for row in rows if row["attack"] == "clean")
    found = read_outcomes(job.folder / evaluate.OUTCOMES_FILE)
    assert found[AttackPoint("clean")].confidence.shape == (10,)
    assert found[pgd(1, EPS, STEP)].confidence is None
    assert manifest.facts["outputs"]["form"] == "logits"
    assert manifest.facts["outputs"]["images"] == 10


def test_weights_that_the_manifest_does_not_list_are_told_before_any_forward(job):
    other = initialise_classifier("resnet8-s2-w8", 3, [0.5] * 3, [0.2] * 3, 1)
    save_classifier(other, job.inputs["model"] / MODEL_FILE, "resnet8-s2-w8", CLASSES)
    with pytest.raises(RetortError) as caught:
        evaluate.run(job)
    assert MODEL_FILE in str(caught.value) and "\n" not in str(caught.value)
    assert not list(job.state_folder.glob("*.parquet"))
