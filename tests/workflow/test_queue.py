"""Jobs that wait: an edited configuration does not reach them, and several runs share a store."""

import copy
import re
import signal

import pytest

from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.store.artefact import open_artefact, read_json
from pipeline.store.lease import hold_lease
from pipeline.store.logs import get_log_path
from tests.helpers.graph import Folder, read_until, tiny

WAITS = "another job works here; waiting for it"


def experiment(*students: str) -> dict:
    """A data set, a natural teacher, and students of a few steps."""
    raw = tiny()
    kept = {name: raw[name] for name in ("store", "seed", "run", "recipes", "datasets")}
    kept["teachers"] = {"natural": raw["teachers"]["natural"] | {"epochs": 3}}
    kept["students"] = {
        name: raw["students"]["natural"] | {"objective": name} | TEACHER[name] for name in students
    }
    return kept


TEACHER = {"natural": {}, "kd": {"teacher": "natural"}}


@pytest.fixture
def at(tmp_path, monkeypatch):
    """A working folder that is also this process's, so that its plans' paths hold here."""
    monkeypatch.chdir(tmp_path)

    def planned(raw: dict, name: str = "experiment.yaml") -> tuple[Folder, Plan]:
        folder = Folder(tmp_path, name=name)
        folder.write(raw)
        plan = make_plan_from_dict(raw)
        write_job_files(plan)
        return folder, plan

    return planned


def folder_of(plan: Plan, kind: str, name: str):
    """Where an artefact of a plan lies."""
    return plan.folder_path(plan.refs_by_name[kind, name])


def attempts_of(plan: Plan, what: str) -> list:
    """What the attempts at the students, then at the teacher, noted down."""
    names = [("student", "kd-0"), ("student", "natural-0"), ("teacher", "natural")]
    paths = [next((folder_of(plan, *n) / "attempts").glob("timing-*.json")) for n in names]
    return [read_json(path, "run again")[what] for path in paths]


def made_once(plan: Plan) -> None:
    """Every artefact of a plan is whole, and one job has made it."""
    for ref in plan.artefacts:
        artefact = open_artefact(plan.folder_path(ref))
        assert artefact.manifest.spec == plan.artefacts[ref].spec
        for name in artefact.manifest.files:
            artefact.get_verified_path(name)
        assert len(list((plan.folder_path(ref) / "attempts").glob("timing-run-*.json"))) == 1
        assert get_log_path(plan.folder_path(ref)).exists()


def test_jobs_that_wait_make_what_was_asked_for(at, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "a,b")
    monkeypatch.setenv("RETORT_LOCKS", str(tmp_path / "locks"))
    raw = experiment("natural", "kd")
    raw["run"]["resources"] = {"student": {"gpus": 1}}
    folder, plan = at(raw)
    data = plan.refs_by_name["dataset", "tiny"]
    with hold_lease(plan.folder_path(data), plan.manifest_path(data)):
        running = folder.start("--set-threads", "teacher=2")
        said = read_until(running, WAITS)
        other = copy.deepcopy(raw)
        other["teachers"]["natural"]["epochs"] = 1
        folder.write(other)
    said += read_until(running, "teacher natural: epoch 1/3")
    folder.config.unlink()
    said += running.communicate()[1]
    assert running.returncode == 0, said
    made_once(plan)
    kept = {f"{p.parent.name}/{p.name}" for p in plan.store.glob("[!b]*/*")}
    assert kept == plan.artefacts.keys()
    assert "made: 4 (dataset tiny; teacher natural; student natural-0, kd-0)" in said
    assert "reused: 0\n" in said
    assert re.search(r"^Provided resources: gpu=\D*2\D*$", said, re.M)
    *students, teacher = attempts_of(plan, "gpus")
    assert teacher == "a,b" and set(students) <= {"a", "b"}
    assert attempts_of(plan, "threads") == [1, 1, 2]


def test_two_runs_share_a_store_and_outlive_a_killed_job(at):
    natural, first = at(experiment("natural"), "natural.yaml")
    kd, second = at(experiment("kd"), "kd.yaml")
    teacher = folder_of(first, "teacher", "natural")
    assert teacher == folder_of(second, "teacher", "natural")
    assert natural.run("prepare_data", str(folder_of(first, "dataset", "tiny")))[0] == 0
    holder = natural.stage("train_teacher", str(teacher))
    read_until(holder, "teacher natural: epoch 1/3")
    holder.send_signal(signal.SIGSTOP)
    runs = [natural.start(), kd.start()]
    for run in runs:
        read_until(run, WAITS)
    holder.kill()
    holder.communicate()
    said = [run.communicate()[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], said
    assert sum("already made" in text for text in said) == 1
    assert all("reused: 1 (dataset tiny)" in text for text in said)
    made_once(first)
    made_once(second)
