"""`python -m pipeline import`: tensors come out of every form of file, and nothing in it runs."""

import argparse
import contextlib
import functools
import io
import os
import pickle
import struct
import types
import warnings
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from pipeline.cli import import_checkpoint
from pipeline.cli.main import main
from pipeline.errors import RetortError
from pipeline.models.pretrained import safe_unpickle
from pipeline.models.pretrained.checkpoint_files import read_state_dict
from pipeline.store.artefact import compute_sha256


class Trap:
    """Its pickle creates a file when anything that trusts it unpickles it."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


class Settings(dict):
    """A foreign mapping, as omegaconf's is."""


class Wrapped(nn.Module):
    """A module that a script pickled as an object."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        self.register_buffer("scale", torch.tensor(2.0))


def weights() -> dict[str, torch.Tensor]:
    """Tensors of every kind that a file may hold."""
    torch.manual_seed(0)
    base = torch.randn(4, 6)
    return {
        "layer.weight": nn.Parameter(base.clone()),
        "layer.view": base.t()[1:, ::2],
        "layer.shared": base,
        "half": torch.randn(3).half(),
        "brain": torch.randn(3).bfloat16(),
        "double": torch.randn(2).double(),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "bytes": torch.arange(5, dtype=torch.uint8),
        "none": torch.empty(0, 3),
    }


def lightning(marker: Path) -> dict:
    """A Lightning checkpoint: callbacks, settings and an optimiser beside the weights."""
    model = nn.Linear(2, 2)
    return {
        "epoch": 3,
        "state_dict": weights(),
        "callbacks": {"trap": Trap(marker), functools.partial(print): 1},
        "hyper_parameters": Settings(lr=0.1, path=Path("x")),
        "optimizer_states": [torch.optim.Adam(model.parameters()).state_dict()],
        "namespace": argparse.Namespace(a=1),
    }


def imported(path: Path, *options: str) -> dict[str, torch.Tensor]:
    """What the verb writes."""
    out = path.with_name("out.safetensors")
    assert main(["import", str(path), str(out), *options]) == 0
    return load_file(out)


def legacy(content: object, path: Path) -> None:
    """The form of torch before 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=False)


FORMS = {"zip.ckpt": torch.save, "legacy.pt": legacy, "model.bin": torch.save}


@pytest.mark.parametrize("form", FORMS)
def test_the_tensors_come_out_and_the_trap_does_not_spring(form, tmp_path, capsys):
    path, marker = tmp_path / form, tmp_path / "sprung"
    FORMS[form](lightning(marker), path)
    with pytest.raises(RetortError, match="holds more than tensors"):
        read_state_dict(path, compute_sha256(path))
    found = imported(path)
    expected = weights()
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value.detach()), name
        assert found[name].dtype == value.dtype
    assert not marker.exists()
    said = capsys.readouterr().out
    assert f"kept     {len(expected)} tensors" in said
    assert "dropped  epoch, callbacks, hyper_parameters, optimizer_states, namespace" in said
    assert "posix.mkdir" in said
    assert "tests.models.pretrained.test_safe_unpickle.Settings" in said
    assert compute_sha256(tmp_path / "out.safetensors") in said
    read_state_dict(tmp_path / "out.safetensors", compute_sha256(tmp_path / "out.safetensors"))
    torch.load(path, weights_only=False)
    assert marker.exists()


def test_a_module_pickled_whole_becomes_its_state_dict(tmp_path):
    module = Wrapped()
    torch.save({"model": module}, tmp_path / "whole.pt")
    found = imported(tmp_path / "whole.pt")
    expected = module.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_part_may_be_named(tmp_path, capsys):
    path = tmp_path / "ema.pth"
    torch.save({"state_dict": {"w": torch.zeros(1)}, "ema": {"now": {"w": torch.ones(1)}}}, path)
    assert torch.equal(imported(path)["w"], torch.zeros(1))
    assert torch.equal(imported(path, "--take", "ema.now")["w"], torch.ones(1))
    assert main(["import", str(path), str(tmp_path / "o.safetensors"), "--take", "emma"]) == 2
    assert "--take emma: has no 'emma'; it has state_dict, ema" in capsys.readouterr().err


def test_torchscript_needs_its_sum_and_is_not_run(tmp_path, capsys, monkeypatch):
    module, path = Wrapped().body, tmp_path / "script.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against the form that its users still have
        torch.jit.trace(module.eval(), torch.rand(1, 3)).save(path)
    monkeypatch.setattr(torch.jit, "load", None)
    assert main(["import", str(path), str(tmp_path / "o.safetensors")]) == 2
    assert "is a TorchScript archive, which is code; name the one you" in capsys.readouterr().err
    assert main(["import", str(path), str(tmp_path / "o.safetensors"), "--sha256", "0" * 64]) == 2
    assert "expected 00000" in capsys.readouterr().err
    found = imported(path, "--sha256", compute_sha256(path))
    assert {n: v.shape for n, v in found.items()} == {
        n: v.shape for n, v in module.state_dict().items()
    }
    assert torch.equal(found["0.weight"], module[0].weight)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


def page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html>Sign in")


def noise(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 4)


def numbers_only(path: Path) -> None:
    torch.save({"state_dict": {"epoch": 3}}, path)


def safetensors(path: Path) -> None:
    import_checkpoint.save_file({"w": torch.zeros(1)}, path)


ACCIDENTS = {
    cut: "is no checkpoint that torch.save or torch.jit.save wrote, or is cut off",
    page: "is an HTML page saved as a checkpoint",
    noise: "is no checkpoint that torch.save or torch.jit.save wrote",
    numbers_only: "holds no tensors by name; --take names the part that does",
    safetensors: "is a safetensors file already; name it as it is",
}


@pytest.mark.parametrize("accident", ACCIDENTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("form", [torch.save, legacy])
def test_accidents_are_one_line_and_leave_nothing(accident, form, tmp_path, capsys):
    path, out = tmp_path / "a.pt", tmp_path / "out.safetensors"
    form({"w": torch.randn(100)}, path)
    accident(path)
    assert main(["import", str(path), str(out)]) == 2
    said = capsys.readouterr().err
    assert ACCIDENTS[accident] in said
    assert said.count("\n") == 1
    assert not out.exists()


def test_no_configuration_is_named_where_there_is_none(tmp_path, capsys):
    assert main(["import", str(tmp_path / "no.pt"), str(tmp_path / "b.safetensors")]) == 2
    assert capsys.readouterr().err.endswith("no.pt: no such checkpoint; name the file to import\n")


def test_the_result_is_a_safetensors_file_by_name(tmp_path, capsys):
    torch.save({"w": torch.zeros(1)}, tmp_path / "a.pt")
    assert main(["import", str(tmp_path / "a.pt"), str(tmp_path / "b.pt")]) == 2
    assert "let its name end in .safetensors" in capsys.readouterr().err


def archived(path: Path, content: bytes, **records: bytes) -> None:
    """A torch archive with a pickle of one's own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", content)
        for name, value in records.items():
            archive.writestr(f"a/data/{name}", value)


HOSTILE = [
    b"cos\nsystem\n(S'exit 1'\ntR.",  # REDUCE
    b"(S'exit 1'\nios\nsystem\n.",  # INST
    b"cbuiltins\neval\n(S'1/0'\ntR}S'a'\nK\x01sb.",  # REDUCE, then BUILD
    b"ccollections\nOrderedDict\n}S'keys'\nK\x01sb.",  # BUILD on a class of Python's own
    b"ctorch._utils\n_rebuild_tensor_v2\n}S'function'\ncos\nsystem\nsb.",  # BUILD on one of ours
    b"cbuiltins\ngetattr\n(cos\n__dict__\nS'x'\ntR.",
    b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x06exit 1\x85R.",  # STACK_GLOBAL
]


@pytest.mark.parametrize("content", HOSTILE, ids=range(len(HOSTILE)))
def test_pickles_written_by_hand_reach_nothing(content, tmp_path, monkeypatch):
    def caught(*_: object) -> None:
        raise AssertionError("a pickle ran something")

    monkeypatch.setattr(os, "system", caught)
    path = tmp_path / "a.pt"
    archived(path, content)
    with contextlib.suppress(RetortError):
        assert isinstance(safe_unpickle.open_checkpoint(path).content, safe_unpickle.Placeholder)


def test_a_tensor_beyond_its_numbers_is_refused(tmp_path):
    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> tuple | None:
            return obj.pid if isinstance(obj, types.SimpleNamespace) else None

    for shape, stride, offset in (((9,), (1,), 0), ((2,), (1,), 7), ((2,), (-1,), 1)):
        pid = ("storage", torch.FloatStorage, "0", "cpu", 8)
        stub = types.SimpleNamespace(pid=pid)
        holder = Rebuilt((stub, offset, shape, stride, False, {}))
        buffer = io.BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Pickler(buffer, protocol=2).dump({"w": holder})
        archived(tmp_path / "a.pt", buffer.getvalue(), **{"0": struct.pack("<8f", *range(8))})
        pickled = safe_unpickle.open_checkpoint(tmp_path / "a.pt")
        with pytest.raises(RetortError, match="a tensor goes beyond its numbers"):
            pickled.read_tensor(pickled.content["w"])


class Rebuilt:
    """Pickles as a call of torch's function that rebuilds a tensor."""

    def __init__(self, args: tuple):
        self.args = args

    def __reduce__(self) -> tuple:
        return torch._utils._rebuild_tensor_v2, self.args
