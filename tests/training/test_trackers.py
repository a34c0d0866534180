"""Trackers of a training: what their own readers find; nothing without the option."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pipeline.config.reader import parse_config
from pipeline.errors import RetortError
from pipeline.planning import graph
from pipeline.training.loop import track_epochs
from pipeline.training.state import CheckpointSettings
from pipeline.training.trackers import mlflow, tensorboard
from tests.helpers.graph import tiny

EPOCHS = 2
FIRST, SECOND = {"epoch": 1, "lr": 0.1, "ce": 1.0}, {"epoch": 2, "lr": 0.05, "ce": 0.0}


def read_tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def find_mlflow_run(folder: Path) -> tuple:
    """The client of a database and its only run."""
    client = MlflowClient(f"sqlite:///{folder / mlflow.DATABASE_FILE}")
    (run,) = client.search_runs([client.get_experiment_by_name("training").experiment_id])
    return client, run


def read_mlflow(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values by name."""
    client, run = find_mlflow_run(folder)
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


READERS = {"tensorboard": read_tensorboard, "mlflow": read_mlflow}


def forget_process(name: str) -> None:
    """Let a tracker start as in a new process."""
    {"tensorboard": tensorboard._writers, "mlflow": mlflow._runs}[name].clear()


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory) -> Path:
    """A database without runs, made once: that takes MLflow seconds."""
    folder = tmp_path_factory.mktemp("store") / "student" / "0123" / "attempts" / "mlflow"
    mlflow.start_run(folder)
    return folder / mlflow.DATABASE_FILE


@pytest.fixture(params=sorted(READERS))
def name(request, tmp_path, empty_database) -> str:
    """Each tracker's name; its folder lies ready."""
    if request.param == "mlflow":
        folder = tmp_path / "attempts" / "mlflow"
        folder.mkdir(parents=True)
        shutil.copy(empty_database, folder)
    return request.param


def test_a_tracker_reads_each_epoch(name, tmp_path):
    settings = CheckpointSettings(tmp_path / "state", trackers=(name,))
    track_epochs(settings, [FIRST], EPOCHS)
    track_epochs(settings, [FIRST, SECOND], EPOCHS)
    found = READERS[name](tmp_path / "attempts" / name)
    assert found == {"lr": [(1, 0.1), (2, 0.05)], "ce": [(1, 1.0), (2, 0.0)]}


def test_an_epoch_after_a_restart_takes_the_place_of_the_first(name, tmp_path):
    """A process that was killed had written epoch 2, but its checkpoint is of epoch 1."""
    settings = CheckpointSettings(tmp_path / "state", trackers=(name,))
    track_epochs(settings, [FIRST], EPOCHS)
    track_epochs(settings, [FIRST, SECOND | {"ce": 7.0}], EPOCHS)
    forget_process(name)
    track_epochs(settings, [FIRST, SECOND], EPOCHS)
    found = READERS[name](tmp_path / "attempts" / name)
    assert found == {"lr": [(1, 0.1), (2, 0.05)], "ce": [(1, 1.0), (2, 0.0)]}


def test_mlflow_says_when_a_training_has_ended_and_of_which_artefact(tmp_path, empty_database):
    folder = tmp_path / "student" / "4567" / "attempts" / "mlflow"
    folder.mkdir(parents=True)
    shutil.copy(empty_database, folder)
    settings = CheckpointSettings(folder.parents[1] / "state", trackers=("mlflow",))
    for history, status in ([FIRST], "RUNNING"), ([FIRST, SECOND], "FINISHED"):
        track_epochs(settings, history, EPOCHS)
        info = find_mlflow_run(folder)[1].info
        assert (info.run_name, info.status) == ("student/4567", status)
    assert [path.name for path in folder.iterdir()] == [mlflow.DATABASE_FILE]


def test_nothing_is_written_unless_asked_for(tmp_path):
    track_epochs(CheckpointSettings(tmp_path / "state"), [FIRST], EPOCHS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_tracker_that_is_not_installed_is_found_before_anything_runs(name, monkeypatch):
    raw = tiny()
    raw["run"]["logging"] = [name]
    plan = graph.make_plan(parse_config(raw))
    monkeypatch.setattr(graph, "is_installed", lambda package: False)
    message = rf"run.logging: {name} is not installed; pip install '/path/to/retort\[{name}\]'"
    with pytest.raises(RetortError, match=message):
        graph.check_packages(plan)
