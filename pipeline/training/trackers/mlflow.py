"""MLflow: each number of an epoch as a metric, in an SQLite file that MLflow's own tools read."""

import logging
import os
import time
from collections.abc import Mapping
from pathlib import Path

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # MLflow reads it while it is imported

from mlflow import MlflowClient  # noqa: E402
from mlflow.entities import Metric  # noqa: E402

DATABASE_FILE = "mlflow.db"
EXPERIMENT = "training"

for logger in ("mlflow", "alembic"):  # they tell of every table that they make
    logging.getLogger(logger).setLevel(logging.WARNING)

_runs: dict[Path, tuple[MlflowClient, str]] = {}  # of this process, by folder, with the run's id


def write_epoch(
    folder: Path, history: Mapping[int, Mapping[str, float]], is_finished: bool
) -> None:
    """Log the last epoch of a history to the run of this process, which starts with all of them.

    A metric cannot be taken back: epochs of a killed process that are trained again would be there
    twice. So every process has a run with the whole history, and earlier runs are deleted.
    """
    is_new = folder not in _runs
    if is_new:
        _runs[folder] = start_run(folder)
    (client, run), now = _runs[folder], int(1000 * time.time())
    for epoch in history if is_new else [max(history)]:
        values = history[epoch].items()
        client.log_batch(run, [Metric(name, value, now, epoch) for name, value in values])
    if is_finished:
        client.set_terminated(run)


def start_run(folder: Path) -> tuple[MlflowClient, str]:
    """A client of the folder's database and the id of a new run, the only one that is left.

    The run is named after the artefact in whose `attempts` the folder lies.
    """
    folder.mkdir(parents=True, exist_ok=True)
    client = MlflowClient(f"sqlite:///{folder.absolute() / DATABASE_FILE}")
    found = client.get_experiment_by_name(EXPERIMENT)
    experiment = found.experiment_id if found else client.create_experiment(EXPERIMENT, str(folder))
    for run in client.search_runs([experiment]):
        client.delete_run(run.info.run_id)
    kind, key = folder.absolute().parts[-4:-2]
    return client, client.create_run(experiment, run_name=f"{kind}/{key}").info.run_id
