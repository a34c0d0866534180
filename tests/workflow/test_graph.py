"""The whole graph on real data, and exactly what an edit makes run again."""

import copy
import os
import re
from collections.abc import Callable

import pyarrow.parquet as pq
import pytest
import yaml

import pipeline
from pipeline.planning.graph import make_plan_from_dict
from pipeline.store.artefact import open_artefact
from tests.helpers.graph import Folder, every_job, everything_of, tiny


def test_every_artefact_is_complete_and_whole(made):
    plan = make_plan_from_dict(yaml.safe_load(made.config.read_text()))
    for ref in plan.artefacts:
        artefact = open_artefact(made.path / plan.folder_path(ref))
        for name in artefact.manifest.files:
            artefact.get_verified_path(name)
        assert not (artefact.folder / "state").exists()


def test_outcomes_are_kept_for_every_sample(made):
    folder = made.path / "store/by-name/evaluation/rslad-0.main"
    rows = pq.read_table(open_artefact(folder).get_verified_path("outcomes.parquet")).to_pylist()
    attacks = {(row["attack"], row["steps"], row["corruption"]) for row in rows}
    asked = {("clean", None, None), ("fgsm", None, None), ("pgd", 2, None)}
    assert asked | {("corruptions", None, "fog")} <= attacks
    clean = [row["index"] for row in rows if row["attack"] == "clean"]
    assert clean == list(range(64))


def test_a_student_loads_by_name(made):
    model = pipeline.load(made.path / "store/by-name/student/adaad-0")
    assert not model.training


def test_the_report_is_one_file_with_every_student(made):
    page = (made.path / "store/by-name/report/report/report.html").read_text()
    for student in tiny()["students"]:
        assert student in page
    assert 'src="http' not in page


def test_a_second_run_has_nothing_to_do(made):
    assert "Nothing to be done" in made.make()


def comment(folder: Folder, raw: dict) -> set[str]:
    folder.write(raw)
    folder.config.write_text("# a remark\n" + folder.config.read_text())
    return set()


def hyper_parameter(folder: Folder, raw: dict) -> set[str]:
    raw["students"]["rslad"]["objective"] = {"rslad": {"steps": 2, "alpha": 0.5}}
    folder.write(raw)
    return everything_of("rslad", raw)


def bank_eps(folder: Folder, raw: dict) -> set[str]:
    raw["banks"]["dad"]["attack"] = {"eps": 0.2}
    folder.write(raw)
    jobs = {"bank/dad", "bank_group/0-1", "bank_group/1-2"}
    return jobs | everything_of("dad", raw) | everything_of("kd", raw)


def bank_eps_there_and_back(folder: Folder, raw: dict) -> set[str]:
    bank_eps(folder, copy.deepcopy(raw))
    folder.write(raw)
    return set()


def new_student(folder: Folder, raw: dict) -> set[str]:
    raw["students"]["second"] = {**raw["students"]["natural"], "epochs": 2}
    folder.write(raw)
    return everything_of("second", raw)


def removed_student(folder: Folder, raw: dict) -> set[str]:
    del raw["students"]["adaad"]
    folder.write(raw)
    return {"report/report"}


def order_and_form(folder: Folder, raw: dict) -> set[str]:
    raw["students"]["rslad"]["objective"] = {"rslad": {"steps": 2.0, "eps": "8.0/255"}}
    raw = dict(reversed(raw.items()))
    raw["students"]["rslad"] = dict(reversed(raw["students"]["rslad"].items()))
    folder.write(raw)
    return set()


def touched_files(folder: Folder, raw: dict) -> set[str]:
    folder.write(raw)
    for path in (folder.path / "store").glob("*/*/*"):
        if path.is_file() and "report" not in path.parts:
            os.utime(path)
    return set()


def shards_per_job(folder: Folder, raw: dict) -> set[str]:
    raw["run"]["shards_per_job"] = 2
    folder.write(raw)
    return set()


def dataset_size(folder: Folder, raw: dict) -> set[str]:
    raw["datasets"]["tiny"]["train"] = 448
    folder.write(raw)
    return every_job(raw)


def seed(folder: Folder, raw: dict) -> set[str]:
    raw["seed"] = 1
    folder.write(raw)
    return {re.sub(r"-0(?=$|\.)", "-1", job) for job in every_job(raw)} - {"dataset/tiny"}


def look_of_the_report(folder: Folder, raw: dict) -> set[str]:
    raw["report"]["title"] = "The same in other words"
    folder.write(raw)
    return {"report/report"}


def run_settings(folder: Folder, raw: dict) -> set[str]:
    raw["run"]["checkpoint_seconds"] = 5
    folder.write(raw)
    return set()


def recipe_of_one(folder: Folder, raw: dict) -> set[str]:
    raw["recipes"]["from-bank"]["lr"] = 0.05
    folder.write(raw)
    return everything_of("dad", raw) | everything_of("kd", raw)


def attack_of_a_suite(folder: Folder, raw: dict) -> set[str]:
    raw["suites"]["main"]["attacks"][1] = {"fgsm": {"eps": "4/255"}}
    folder.write(raw)
    return {job for job in every_job(raw) if job.startswith(("evaluation/", "report/"))}


def second_name(folder: Folder, raw: dict) -> set[str]:
    raw["banks"]["same"] = raw["banks"]["dad"]
    folder.write(raw)
    return {"report/report"}


def teacher_recipe(folder: Folder, raw: dict) -> set[str]:
    raw["teachers"]["robust"]["epochs"] = 2
    folder.write(raw)
    students = ("rslad", "adaad", "derd")
    return {"teacher/robust"} | set().union(*(everything_of(s, raw) for s in students))


EDITS = (
    comment,
    hyper_parameter,
    bank_eps,
    bank_eps_there_and_back,
    new_student,
    removed_student,
    order_and_form,
    touched_files,
    shards_per_job,
    teacher_recipe,
    dataset_size,
    seed,
    look_of_the_report,
    run_settings,
    recipe_of_one,
    attack_of_a_suite,
    second_name,
)


@pytest.mark.parametrize("edit", EDITS, ids=lambda e: e.__name__)
def test_an_edit_plans_exactly_these_jobs(made, edit: Callable):
    expected = edit(made, tiny())
    try:
        assert made.planned() == expected
    finally:
        made.write(tiny())
