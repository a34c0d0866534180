"""How a GPU rounds: what a recipe asks for, and what nothing asks for."""

import os

import pytest
import torch
from pydantic import ValidationError

from pipeline.config.recipe import Recipe
from pipeline.schema import dump_section
from pipeline.training.numeric_modes import CUBLAS_VARIABLE, set_numeric_modes


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
