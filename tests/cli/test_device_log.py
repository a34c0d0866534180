"""A job's log says once which device it computes on, also where the configuration says `auto`."""

import logging
from pathlib import Path

import pytest
import torch

from pipeline.cli.main import check_device, main
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.resources import DEVICE_VARIABLE
from pipeline.store.artefact import Job
from pipeline.store.logs import get_log_path
from tests.gpu.device import make_experiment


def test_a_job_logs_what_auto_was_found_to_be(tmp_path, monkeypatch):
    monkeypatch.setenv(DEVICE_VARIABLE, "cpu")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    plan = make_plan_from_dict(make_experiment(tmp_path, "auto"))
    write_job_files(plan)
    folder = plan.folder_path(plan.refs_by_name["dataset", "tiny"])
    assert main(["prepare_data", str(folder)]) == 0
    log = get_log_path(folder).read_text()
    assert log.count("device") == log.count("device cpu, threads: 1") == 1
    assert plan.artefacts[plan.refs_by_name["teacher", "natural"]].spec["device"] == "cpu"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        ({"device": "cuda"}, "device cuda: Some Card"),
        ({"device": "cpu"}, "device cpu, threads: 1"),
        ({}, "device cpu, threads: 1"),
    ],
    ids=str,
)
def test_each_device_is_named(spec, line, monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Some Card")
    with caplog.at_level(logging.INFO, "retort"):
        check_device(Job(Path(), "bank", "b", "b" * 12, spec, {}, {}))
    assert caplog.messages == [line]
