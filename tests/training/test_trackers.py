"""Trackers of a training: what TensorBoard's own reader finds; nothing without the option."""

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.config.reader import parse_config
from pipeline.errors import RetortError
from pipeline.planning import graph
from pipeline.training.loop import track_epoch
from pipeline.training.state import CheckpointSettings
from pipeline.training.trackers import tensorboard
from tests.helpers.graph import tiny


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_reads_each_epoch(tmp_path):
    settings = CheckpointSettings(tmp_path / "state", trackers=("tensorboard",))
    for epoch in (1, 2):
        track_epoch(settings, {"epoch": epoch, "lr": 0.1 / epoch, "ce": 2.0 - epoch})
    found = read_scalars(tmp_path / "attempts" / "tensorboard")
    assert found == {"lr": [(1, 0.1), (2, 0.05)], "ce": [(1, 1.0), (2, 0.0)]}


def test_an_epoch_after_a_restart_takes_the_place_of_the_first(tmp_path):
    """A process that was killed had written epoch 2, but its checkpoint is of epoch 1."""
    settings = CheckpointSettings(tmp_path / "state", trackers=("tensorboard",))
    for epoch in (1, 2):
        track_epoch(settings, {"epoch": epoch, "ce": float(epoch)})
    tensorboard._writers.clear()
    track_epoch(settings, {"epoch": 2, "ce": 2.0})
    assert read_scalars(tmp_path / "attempts" / "tensorboard") == {"ce": [(1, 1.0), (2, 2.0)]}


def test_nothing_is_written_unless_asked_for(tmp_path):
    track_epoch(CheckpointSettings(tmp_path / "state"), {"epoch": 1, "ce": 1.0})
    assert list(tmp_path.iterdir()) == []


def test_a_tracker_that_is_not_installed_is_found_before_anything_runs(monkeypatch):
    raw = tiny()
    raw["run"]["logging"] = ["tensorboard"]
    plan = graph.make_plan(parse_config(raw))
    monkeypatch.setattr(graph, "is_installed", lambda package: False)
    with pytest.raises(RetortError, match=r"run.logging: tensorboard is not installed; pip"):
        graph.check_packages(plan)
