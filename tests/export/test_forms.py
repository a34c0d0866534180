"""Each form of an export, loaded back by the tool that it is for, gives the same logits."""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import onnxruntime
import pytest
import timm
import torch
import yaml
from safetensors.torch import load_file, save_file

import pipeline
from pipeline.errors import RetortError
from pipeline.export.finished_model import open_finished_model
from pipeline.export.folder import RECORD_FILE, export_model, list_forms
from pipeline.export.forms.robustbench import describe_claim
from tests.export.finished import CLASSES, MEAN, STD, write_student
from tests.helpers.graph import ROOT

TOLERANCE = 1e-4
OWN, TIMM = ("resnet8-s2-w8", 32), ("timm/test_vit", 160)
READ_BY_TRANSFORMERS = """
import sys, torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageClassification
model = AutoModelForImageClassification.from_pretrained(sys.argv[1], trust_remote_code=True)
images = load_file(sys.argv[2])["images"]
with torch.no_grad():
    save_file({"logits": model.eval()(pixel_values=images).logits}, sys.argv[3])
print(model.config.id2label)
"""


def make_results(key: str) -> tuple[dict, ...]:
    """Records of results.csv as far as exports read them: 40 of 50 clean, 10 of 50 attacked."""
    base = {
        "key": key,
        "test_set": "photos",
        "shifted": False,
        "epoch": None,
        **dict.fromkeys(("variant", "surrogate", "part", "corruption"), ""),
        "n": 50,
    }
    clean = {"attack": "clean", "condition": "clean", "eps": 0.0, "accuracy": 0.8}
    attacked = {"attack": "autoattack", "condition": "AutoAttack at 8/255", "eps": 8 / 255}
    return (
        base | clean | {"low": 0.67, "high": 0.888},
        base | attacked | {"accuracy": 0.2, "low": 0.112, "high": 0.33},
        base | clean | {"key": "another", "low": 0.0, "high": 0.0},
    )


@pytest.fixture(scope="module", params=[OWN, TIMM], ids=lambda each: each[0])
def model(request, tmp_path_factory):
    """A student of our own architecture, and one of timm's."""
    name, side = request.param
    folder = write_student(tmp_path_factory.mktemp("made"), name, side, crop=0.8)
    return open_finished_model(folder, make_results(folder.name))


def compute_logits(model, count: int = 5):
    """Images (N,C,H,W) in [0,1], and the model's logits on them."""
    images = torch.rand((count, *model.shape), generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        return images, model.module(images)


def assert_same(logits, expected):
    torch.testing.assert_close(torch.as_tensor(logits), expected, atol=TOLERANCE, rtol=TOLERANCE)


def normalise(images):
    """What timm's models take."""
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def test_onnx_in_onnxruntime_at_several_batch_sizes(model, tmp_path):
    assert export_model(model, "onnx", tmp_path / "out") <= TOLERANCE
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    for count in (1, 5):
        images, expected = compute_logits(model, count)
        (logits,) = session.run(["logits"], {"images": images.numpy()})
        assert_same(logits, expected)


def test_torchscript(model, tmp_path):
    assert export_model(model, "torchscript", tmp_path / "out") <= TOLERANCE
    with pytest.warns():  # torch tells that TorchScript is deprecated
        script = torch.jit.load(tmp_path / "out" / "model.pt")
    for count in (1, 5):
        images, expected = compute_logits(model, count)
        assert_same(script(images), expected)


def test_timm(model, tmp_path):
    if model.shape[-1] == OWN[1]:
        with pytest.raises(RetortError, match="resnet8-s2-w8 is none of timm's; export --to onnx"):
            export_model(model, "timm", tmp_path / "out")
        assert not list(tmp_path.iterdir())
        return
    export_model(model, "timm", tmp_path / "out")
    network = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    images, expected = compute_logits(model)
    assert_same(network(normalise(images)), expected)
    prepared = timm.data.resolve_data_config(model=network)
    assert prepared["mean"] == pytest.approx(MEAN)
    assert (prepared["input_size"], prepared["crop_pct"]) == ((3, 160, 160), 0.8)
    assert list(network.pretrained_cfg["label_names"]) == list(CLASSES)


def test_hugging_face_folder_in_transformers(model, tmp_path):
    """In a process of its own, since transformers keeps modules in a cache that it finds once."""
    export_model(replace(model, licence="cc0-1.0"), "hf", tmp_path / "out")
    images, expected = compute_logits(model)
    is_ours = model.shape[-1] == OWN[1]
    save_file({"images": images if is_ours else normalise(images)}, tmp_path / "images")
    places = [str(tmp_path / name) for name in ("out", "images", "logits")]
    outside = {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", READ_BY_TRANSFORMERS, *places],
        env={**os.environ, **outside},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_same(load_file(tmp_path / "logits")["logits"], expected)
    assert "{0: 'cat', 1: 'dog', 2: 'frog'}" in done.stdout


def test_model_card(model, tmp_path):
    export_model(replace(model, licence="cc0-1.0"), "hf", tmp_path / "out")
    _, header, card = (tmp_path / "out" / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(header)["license"] == "cc0-1.0"
    assert "| photos | clean | 50 | 80.0 | 67.0 to 88.8 |" in card
    assert "| photos | AutoAttack at 8/255 | 50 | 20.0 | 11.2 to 33.0 |" in card
    assert card.count("| photos |") == 2
    assert "| training data | photos (imagefolder), 84 training images |" in card


def test_robustbench_finds_checkpoint_entry_and_claim(model, tmp_path):
    export_model(model, "robustbench", tmp_path / "out")
    place = Path("imagefolder") / "Linf"
    claim = json.loads((tmp_path / "out" / "model_info" / place / "adaad-0.json").read_text())
    assert (claim["clean_acc"], claim["autoattack_acc"], claim["eps"]) == (
        "80.00",
        "20.00",
        "8/255",
    )
    entry = runpy.run_path(str(tmp_path / "out" / "adaad-0.py"))["models"]["adaad-0"]
    network = entry["model"]().eval()
    weights = tmp_path / "out" / "models" / place / "adaad-0.pt"
    network.load_state_dict(torch.load(weights, weights_only=True))
    images, expected = compute_logits(model)
    assert_same(network(images), expected)


def test_robustbench_wants_autoattack(model, tmp_path):
    without = replace(model, results=model.results[:1])
    with pytest.raises(RetortError, match="no standard AutoAttack, which RobustBench asks for"):
        export_model(without, "robustbench", tmp_path / "out")


@pytest.mark.parametrize("column", ["surrogate", "variant", "part", "corruption"])
def test_robustbench_claims_no_other_condition_s_accuracy(column):
    """An attack made on another model leaves more images right than the model's own."""
    clean, attacked, _ = make_results("k")
    others = [{**record, column: "other", "accuracy": 0.9, "n": 99} for record in (clean, attacked)]
    student = SimpleNamespace(
        name="s", results=(*others, clean, attacked), dataset=("photos", {"source": "cifar10"})
    )
    claim = describe_claim(student, {"model": "resnet18"})
    assert (claim["clean_acc"], claim["autoattack_acc"]) == ("80.00", "20.00")


@pytest.mark.parametrize("form", list_forms())
def test_pipeline_loads_an_exported_folder_and_file(form, model, tmp_path):
    if form == "timm" and model.shape[-1] == OWN[1]:
        with pytest.raises(RetortError, match="timm"):
            export_model(model, form, tmp_path / "out")
        assert not (tmp_path / "out").exists()
        return
    export_model(model, form, tmp_path / "out")
    file = json.loads((tmp_path / "out" / RECORD_FILE).read_text())["file"]
    images, expected = compute_logits(model)
    for place in (tmp_path / "out", tmp_path / "out" / file):
        with torch.no_grad():
            assert_same(pipeline.load(place)(images), expected)
