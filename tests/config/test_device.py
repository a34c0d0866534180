"""The device that a configuration names, or that is found."""

import os

import pytest

from pipeline import resources
from pipeline.config.reader import parse_config
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.graph import tiny


@pytest.fixture(autouse=True)
def undecided(monkeypatch):
    """No process has decided for another; what is decided here is forgotten."""
    monkeypatch.setenv(resources.DEVICE_VARIABLE, "")
    monkeypatch.delenv(resources.DEVICE_VARIABLE)


@pytest.mark.parametrize(
    ("visible", "device"), [("0,1", "cuda"), ("GPU-1", "cuda"), ("", "cpu"), ("-1", "cpu")]
)
def test_auto_is_a_fixed_device_and_stays_so(monkeypatch, visible, device):
    monkeypatch.setenv(resources.VISIBLE_VARIABLE, visible)
    assert parse_config({"device": "auto"}).device == device
    assert os.environ[resources.DEVICE_VARIABLE] == device
    monkeypatch.setenv(resources.VISIBLE_VARIABLE, "" if visible else "0")
    assert parse_config({"device": "auto"}).device == device


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_named_device_is_not_looked_for(monkeypatch, device):
    monkeypatch.setattr(resources, "list_gpus", lambda: pytest.fail("looked"))
    assert parse_config({"device": device}).device == device


def test_another_device_is_refused_with_the_nearest():
    with pytest.raises(RetortError, match="device: 'coda' is unknown; did you mean 'cuda'"):
        parse_config({"device": "coda"})


def test_the_device_is_in_the_key_of_all_that_is_computed():
    plans = {
        device: make_plan_from_dict(tiny() | {"device": device}).refs_by_name
        for device in ("cpu", "cuda")
    }
    same = {name for name, ref in plans["cpu"].items() if plans["cuda"][name] == ref}
    assert {kind for kind, _ in same} == {"dataset"}
