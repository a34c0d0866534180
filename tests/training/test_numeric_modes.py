"""How a GPU rounds: what a recipe asks for, and what nothing asks for."""

import os
from argparse import Namespace
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from pipeline.cli import main
from pipeline.config.recipe import Recipe
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from pipeline.schema import dump_section
from pipeline.store.artefact import STAGES_BY_KIND, Job, read_job
from pipeline.training.numeric_modes import CUBLAS_VARIABLE, set_numeric_modes
from tests.helpers.graph import tiny


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    """Modes and environment as before."""
    monkeypatch.setenv(CUBLAS_VARIABLE, "")
    yield
    set_numeric_modes({})


def read_modes() -> tuple[bool, ...]:
    """TF32 in products and convolutions, cuDNN's trials, one order of sums."""
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    deterministic = torch.are_deterministic_algorithms_enabled()
    return products.allow_tf32, cudnn.allow_tf32, cudnn.benchmark, deterministic


@pytest.mark.parametrize(
    ("recipe", "modes"),
    [
        ({}, (False, False, False, False)),
        ({"tf32": True}, (True, True, False, False)),
        ({"cudnn_benchmark": True}, (False, False, True, False)),
        ({"deterministic": True}, (False, False, False, True)),
    ],
    ids=str,
)
def test_a_job_sets_every_mode_whatever_was_set_before(recipe, modes):
    set_numeric_modes({"tf32": True, "cudnn_benchmark": True, "deterministic": True})
    os.environ[CUBLAS_VARIABLE] = ""
    set_numeric_modes(recipe)
    assert read_modes() == modes
    assert torch.backends.cudnn.deterministic == (not recipe or "deterministic" in recipe)
    assert os.environ[CUBLAS_VARIABLE] == (":4096:8" if "deterministic" in recipe else "")


class Reached(Exception):
    """A stage was about to run."""


def test_only_what_a_recipe_trains_computes_in_tf32(tmp_path, monkeypatch):
    raw = tiny() | {"store": str(tmp_path)}
    for recipe in raw["recipes"].values():
        recipe["tf32"] = True
    plan, found = make_plan_from_dict(raw), {}
    write_job_files(plan)

    def stop(job: Job) -> None:
        found.setdefault(job.kind, set()).add(read_modes()[:2])
        raise Reached

    monkeypatch.setattr(main, "load_plugin", lambda *names: SimpleNamespace(run=stop))
    monkeypatch.setattr(main, "keep_freed_memory", lambda: False)
    for ref, entry in plan.artefacts.items():
        job = read_job(plan.folder_path(ref))
        asked = Namespace(verb=STAGES_BY_KIND[entry.kind], shards=None)
        with pytest.raises(Reached):
            main.make_in_process(job, asked)
    exact = {kind for kind, modes in found.items() if modes == {(False, False)}}
    assert {"evaluation", "bank", "dataset", "report"} <= exact
    assert (True, True) in found["student"] & found["teacher"]


def test_modes_are_in_the_key_only_where_they_are_asked_for():
    names = {"tf32", "cudnn_benchmark", "deterministic"}
    assert not names & dump_section(Recipe()).keys()
    asked = dump_section(Recipe(tf32=True, deterministic=True))
    assert {name: asked.get(name) for name in names} == {
        "tf32": True,
        "cudnn_benchmark": None,
        "deterministic": True,
    }


def test_trying_algorithms_out_and_equal_bytes_exclude_each_other():
    with pytest.raises(ValidationError, match="cudnn_benchmark: may choose otherwise"):
        Recipe(deterministic=True, cudnn_benchmark=True)
