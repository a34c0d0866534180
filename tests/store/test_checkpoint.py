"""Checkpoints: round trip, equal bytes, and no code run from a file."""

import pickle

import pytest
import torch

from pipeline.errors import RetortError
from pipeline.store import checkpoint

STATE = {"w": torch.arange(4.0), "counters": [3, 7], "nested": {"lr": 0.1, "best": None}}


def test_a_state_comes_back(tmp_path):
    checkpoint.save(tmp_path / "c.pt", STATE)
    found = checkpoint.load(tmp_path / "c.pt", "cpu")
    assert torch.equal(found.pop("w"), STATE["w"])
    assert found == {k: v for k, v in STATE.items() if k != "w"}


def test_there_may_be_none(tmp_path):
    assert checkpoint.load(tmp_path / "c.pt", "cpu") is None


def test_equal_states_are_equal_bytes(tmp_path):
    for name in ("one.pt", "another.pt"):
        checkpoint.save(tmp_path / name, STATE)
    assert (tmp_path / "one.pt").read_bytes() == (tmp_path / "another.pt").read_bytes()


class Trap:
    """An object that would run code when unpickled."""

    def __reduce__(self):
        return (print, ("executed",))


@pytest.mark.parametrize("make", [torch.save, lambda o, p: p.write_bytes(pickle.dumps(o, 2))])
def test_code_in_a_file_is_refused_and_not_run(tmp_path, make, capsys):
    path = tmp_path / "c.pt"
    make(Trap(), path)
    with pytest.raises(
        RetortError, match=r"c\.pt: is truncated, altered, or not .*delete it to"
    ) as caught:
        checkpoint.load(path, "cpu")
    assert "\n" not in str(caught.value)
    assert "executed" not in capsys.readouterr().out


def test_a_cut_file_is_named(tmp_path):
    path = tmp_path / "c.pt"
    checkpoint.save(path, STATE)
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(RetortError, match="is truncated, altered"):
        checkpoint.load(path, "cpu")
