"""Verbs on artefacts that plug-ins of the user's own made: `show`, `why`, `verify --mend`."""

import json
from pathlib import Path

import pytest
import yaml

import pipeline
from pipeline.cli.main import main
from pipeline.discovery import use_plugin_folders
from pipeline.models.classifier import initialise_classifier, save_classifier
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.store.artefact import JOB_FILE, read_job, write_manifest
from tests.helpers.own import mine
from tests.planning.test_plan import small

__all__ = ["mine"]

CONFIG = ("--configfile", "experiment.yaml")
OWN = {"model": "tiny_architecture", "objective": {"tiny_objective": {}}}


@pytest.fixture
def made(mine) -> Path:
    """The folder of a student with an objective and a network of one's own."""
    raw = {**small(), "plugins": "my_methods/"}
    raw["students"]["kd"] |= OWN
    Path("experiment.yaml").write_text(yaml.safe_dump(raw))
    plan = make_plan_from_dict(raw)
    write_job_files(plan)
    job = read_job(plan.folder_path(plan.refs_by_name["student", "kd-0"]))
    model = initialise_classifier("tiny_architecture", 3, (0.5,) * 3, (0.2,) * 3, 0)
    save_classifier(model, job.folder / "model.safetensors", "tiny_architecture", "abc")
    write_manifest(job, job.build_manifest(["model.safetensors"], {}))
    use_plugin_folders(())
    return job.folder


def test_show_says_where_the_plug_ins_lie(made, mine, capsys):
    assert main(["show", "student/kd-0", *CONFIG]) == 0
    printed = capsys.readouterr().out
    assert "retort_plugins.objectives.tiny_objective: " in printed
    assert f"folders: [{mine}]" in printed


def test_why_names_a_file_of_ones_own_that_changed(made, mine, capsys):
    path = mine / "objectives/tiny_objective.py"
    path.write_text(path.read_text().replace("0.5", "0.6"))
    assert main(["why", "student/kd-0", *CONFIG]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3] == f"nearest finished: student kd-0 ({made.name}), which differs in"
    assert lines[-2] == "  objective.tiny_objective.weight: 0.6 here, 0.5 there"
    assert lines[-1].startswith("  code retort_plugins.objectives.tiny_objective: ")


@pytest.mark.parametrize("is_planned", [True, False])
def test_a_mended_job_file_still_says_where_the_plug_ins_lie(made, mine, is_planned, capsys):
    path = made / JOB_FILE
    before = path.read_bytes()
    altered = before.replace(b'"checkpoint_seconds": 60', b'"checkpoint_seconds": 61')
    assert altered != before
    path.write_bytes(altered)
    if not is_planned:
        raw = yaml.safe_load(Path("experiment.yaml").read_text())
        del raw["students"]["kd"], raw["plugins"]
        Path("experiment.yaml").write_text(yaml.safe_dump(raw))
    assert main(["verify", "--all", "--mend", *CONFIG]) == 0
    assert json.loads(path.read_text()) == json.loads(before)
    use_plugin_folders(())
    assert pipeline.load(made).network.linear.out_features == 3
