"""Every data-free method from configuration to artefact, through its stages."""

import json
from importlib import import_module
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import Plan, write_job_files
from pipeline.store.artefact import STAGES_BY_KIND, read_job, write_manifest
from tests.helpers.graph import tiny

RECIPE = {"epochs": 2, "batch": 16, "lr": 0.05, "schedule": "constant", "augment": "none"}
SMALL = {"model": "resnet8-s2-w8", "latent": 12, "channels": 8, "drawn": 16, "steps_per_epoch": 2}
ROUNDS = {"pool": 40, "rounds": {"iterations": 2, "made": 16}}


def generator(teacher: str = "natural", **more) -> dict:
    return {**SMALL, "teacher": teacher, "recipe": RECIPE, **more}


def cold(loss: str, **more) -> dict:
    """The section of a baseline's generator, without a warm-up."""
    return generator(**{"losses": loss, "warm": False, **more})


def student(generator: str, objective: dict | str, **more) -> dict:
    given = {"teacher": "natural", "generator": generator, "objective": objective, **more}
    if "teachers" in more:
        del given["teacher"]
    return {**given, "model": SMALL["model"], "recipe": {**RECIPE, "epochs": 1}}


HARD = {"attack": "rslad", "steps": 1}
GENERATORS = {
    "derd": generator(grids=[0, 1], losses={"derd": {"labels": "given"}}),
    "alone": generator("robust", recipe={**RECIPE, "keep_epochs": [1]}),
    "inverted": generator(losses="inversion", **{**ROUNDS, "rounds": {"of": "pixels"}}),
    "dafl": cold("dafl", student_steps=2),
    "dfad": cold("dfad", student_steps=2),
    "zskt": cold("zskt", clip_grad=5),
    "dfard": cold("dfard_like"),
    "cmi": cold("cmi", **ROUNDS, grids=[0.5]),
    "dfhl": cold("dfhl_rs", **ROUNDS),
}
BOTH = {"natural": "natural", "robust": "robust"}
STUDENTS = {
    "derd": student("derd", {"derd": {"steps": 1}}, teachers=BOTH),
    "alone": student("alone", {"derd": {"steps": 1}}, teachers={"robust": "robust"}, surrogate=1),
    "inverted": student(
        "inverted", {"derd": {"steps": 1}}, teachers=BOTH, sampling={"learns": False}
    ),
    "dafl": student("dafl", "data_free_kd", seeds=[0, 1]),
    "dafl-hard": student("dafl", {"data_free_kd": HARD}),
    "dfad": student("dfad", {"dfad": HARD}),
    "zskt": student("zskt", {"zskt": {"attention": 250, **HARD}}),
    "dfard": student("dfard", {"dfard_like": HARD}),
    "cmi": student("cmi", {"data_free_kd": {"temperature": 20}}),
    "dfhl": student("dfhl", {"dfhl_rs": {"entropy_steps": 1, **HARD}}),
}
GENERATORS["inverted"]["rounds"] |= ROUNDS["rounds"]


def configuration(store: Path) -> dict:
    """A configuration of all methods on one small data set."""
    raw = tiny()
    teacher = {"dataset": "tiny", "model": "resnet8-s2-w8", "recipe": {**RECIPE, "batch": 64}}
    return {
        "store": str(store),
        "run": raw["run"],
        "datasets": {"tiny": {"source": "cifar10", "train": 128, "val": 0, "test": 8}},
        "teachers": {
            "natural": teacher,
            "robust": {**teacher, "recipe": {**teacher["recipe"], "epochs": 1}},
        },
        "generators": GENERATORS,
        "students": STUDENTS,
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Plan:
    """The artefacts of all methods, made in this process."""
    plan = make_plan_from_dict(configuration(tmp_path_factory.mktemp("store")))
    write_job_files(plan)
    for ref, entry in plan.artefacts.items():
        job = read_job(plan.folder_path(ref))
        write_manifest(job, import_module(f"pipeline.stages.{STAGES_BY_KIND[entry.kind]}").run(job))
    return plan


def folder(plan: Plan, kind: str, name: str) -> Path:
    return plan.folder_path(plan.refs_by_name[kind, name])


def weights(plan: Plan, kind: str, name: str) -> dict[str, torch.Tensor]:
    return load_file(folder(plan, kind, name) / "model.safetensors")


@pytest.mark.parametrize("name", STUDENTS)
def test_each_student_is_trained(made, name):
    records = json.loads((folder(made, "student", f"{name}-0") / "history.json").read_text())
    ((record),) = records["epochs"]
    assert "kd" in record or {"natural", "robust", "cosine"} <= record.keys()
    begin = weights(made, "generator", STUDENTS[name]["generator"])
    end = weights(made, "student", f"{name}-0")
    assert all(value.isfinite().all() for value in end.values())
    assert not torch.equal(begin["network.conv.weight"], end["network.conv.weight"])


def test_without_a_warm_up_each_seed_begins_anew(made):
    place = folder(made, "generator", "dafl")
    assert {p.name for p in place.glob("*.*")} >= {"model.safetensors", "manifest.json"}
    assert not (place / "source.pt").exists()
    one, two = (weights(made, "student", f"dafl-{seed}") for seed in (0, 1))
    gap = (one["network.conv.weight"] - two["network.conv.weight"]).abs().max()
    assert gap > 0.1


def test_grids_are_kept_where_they_were_asked_for(made):
    names = {p.name for p in folder(made, "generator", "derd").glob("samples*.png")}
    assert names == {"samples.png", "samples-0001.png", "samples-0002.png"}
    assert not list(folder(made, "generator", "cmi").glob("samples*.png"))


def test_the_surrogate_is_an_early_student(made):
    place = folder(made, "generator", "alone")
    assert (place / "epoch-1.safetensors").exists()
    spec = json.loads((folder(made, "student", "alone-0") / "spec.json").read_text())["spec"]
    assert spec["surrogate"] == 1


def test_only_the_code_of_a_method_is_in_its_keys(made):
    code = made.artefacts[made.refs_by_name["student", "dafl-0"]].code
    assert {
        "pipeline.data_free.generator_losses.dafl",
        "pipeline.data_free.generator_batches",
    } <= code.keys()
    assert (
        not {"pipeline.data_free.generator_losses.cmi", "pipeline.data_free.inversion_batches"}
        & code.keys()
    )
    code = made.artefacts[made.refs_by_name["generator", "cmi"]].code
    assert {
        "pipeline.data_free.generator_losses.cmi",
        "pipeline.data_free.inversion_batches",
    } <= code.keys()
    assert "pipeline.data_free.generator_batches" not in code
