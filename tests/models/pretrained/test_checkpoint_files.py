"""Checkpoints from elsewhere: every usual form loads, every usual accident is named."""

import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pipeline.errors import RetortError
from pipeline.models.classifier import Classifier, build_classifier
from pipeline.models.pretrained import checkpoint_files
from pipeline.models.pretrained.checkpoint_files import (
    StateDict,
    load_foreign_weights,
    read_state_dict,
)
from pipeline.store.artefact import compute_sha256

IDENTITY = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
PIXELS = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def network(name: str, seed: int, classes: int = 10) -> Classifier:
    """A model of its own weights and running statistics, in eval mode."""
    torch.manual_seed(seed)
    model = build_classifier(name, classes, *IDENTITY)
    model(torch.rand(8, 3, 32, 32))
    return model.eval()


def weights(model: Classifier) -> StateDict:
    """The state of the network alone, as others save it."""
    return {name: value.clone() for name, value in model.network.state_dict().items()}


def prefixed(state: StateDict, *prefixes: str) -> StateDict:
    """Wrappers' prefixes before every name."""
    return {"".join(prefixes) + name: value for name, value in state.items()}


def renamed(state: StateDict, **names: str) -> StateDict:
    """Parts of names replaced."""
    return {
        ".".join(names.get(part, part) for part in name.split(".")): value
        for name, value in state.items()
    }


def trades(state: StateDict) -> StateDict:
    """A WRN as TRADES saves it: under DataParallel, with a stage that no forward uses."""
    unused = {n.replace("block1", "sub_block1"): -v for n, v in state.items() if "block1." in n}
    return prefixed({**state, **unused}, "module.")


def without_counters(state: StateDict) -> StateDict:
    """A state as torch < 0.4.1 saved it."""
    return {n: v for n, v in state.items() if not n.endswith("num_batches_tracked")}


FORMS = {
    "trades": ("wrn-10-1", trades),
    "plain wrn": ("wrn-16-1", lambda s: s),
    "kuangliu": ("resnet18-w4", lambda s: prefixed(s, "module.")),
    "torchvision": ("resnet18-w4", lambda s: renamed(s, shortcut="downsample", linear="fc")),
    "robustbench": ("resnet50-w4", lambda s: prefixed(s, "model.")),
    "compiled": ("wrn-10-1", lambda s: prefixed(s, "_orig_mod.", "module.")),
    "sequential": ("wrn-10-1", lambda s: prefixed(s, "module.", "1.")),
    "old": ("mobilenetv2", without_counters),
    "vgg": ("vgg16-bn", lambda s: renamed(s, layers="features", linear="classifier")),
    "timm": ("timm/resnet10t", lambda s: {n.removeprefix("model."): v for n, v in s.items()}),
    "robustness": (
        "resnet18-w4",
        lambda s: prefixed(s, "module.model.") | prefixed(s, "module.attacker.model."),
    ),
    "half": ("wrn-10-1", lambda s: {n: v.half() if v.ndim else v for n, v in s.items()}),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_usual_form_gives_the_same_logits(form):
    name, change = FORMS[form]
    donor, taker = network(name, 1), network(name, 2)
    state = change(weights(donor))
    dropped = load_foreign_weights(taker, state, "file")
    with torch.no_grad():
        assert not torch.equal(donor(PIXELS), network(name, 2)(PIXELS))
        tolerance = 0.05 if form == "half" else 0.0
        torch.testing.assert_close(taker(PIXELS), donor(PIXELS), rtol=tolerance, atol=tolerance)
    assert all(re.search("sub_block1|attacker", n) for n in dropped)
    assert bool(dropped) == (form in ("trades", "robustness"))


@pytest.mark.parametrize(
    "names",
    [("normalizer.mean", "normalizer.std"), ("mu", "sigma"), ("module.0.mean", "module.0.std")],
)
def test_a_normalisation_in_the_file_becomes_the_model_s(names):
    donor, taker = network("wrn-10-1", 1), network("wrn-10-1", 2)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)
    state = prefixed(weights(donor), "model.") | dict(zip(names, (mean, std), strict=True))
    assert load_foreign_weights(taker, state, "file") == []
    assert torch.equal(taker.mean.flatten(), mean) and torch.equal(
        taker.std.flatten(), std[:, 0, 0]
    )
    with torch.no_grad():
        expected = donor((PIXELS - mean.view(1, 3, 1, 1)) / std)
        torch.testing.assert_close(taker(PIXELS), expected)


def lacking(state: StateDict) -> None:
    del state["block2.layer.0.conv2.weight"]


def unexpected(state: StateDict) -> None:
    state["block4.layer.0.conv1.weight"] = torch.zeros(1)


def misshapen(state: StateDict) -> None:
    state["fc.weight"] = torch.zeros(100, 64)


def not_finite(state: StateDict) -> None:
    state["bn1.weight"][3] = torch.nan


def twice(state: StateDict) -> None:
    state["module.fc.bias"] = torch.zeros(10)


FAULTS = {
    lacking: r"file: 'block2.layer.0.conv2.weight' is missing, 1 of \d+ in all",
    unexpected: "file: 'block4.layer.0.conv1.weight' is in no such model; is 'model' the right one",
    misshapen: r"file: 'fc.weight' is \[100, 64\], the model wants \[10, 64\]; do model and",
    not_finite: "file: 'bn1.weight' holds values that are not finite",
    twice: "file: 'module.fc.bias' and another name both mean 'fc.bias'",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_the_first_key_that_does_not_fit_is_named(fault):
    model = network("wrn-10-1", 1)
    state = weights(model)
    fault(state)
    before = weights(model)
    with pytest.raises(RetortError, match=FAULTS[fault]):
        load_foreign_weights(model, state, "file")
    assert all(torch.equal(v, before[n]) for n, v in weights(model).items())


def saved(path: Path, content: object) -> tuple[Path, str]:
    """A torch file and its sum."""
    torch.save(content, path)
    return path, compute_sha256(path)


@pytest.mark.parametrize("wrapper", ["state_dict", "model_state_dict", "model", "net"])
def test_wrapped_files_are_unwrapped(tmp_path, wrapper):
    state = weights(network("wrn-10-1", 1))
    found = read_state_dict(*saved(tmp_path / "a.pt", {"epoch": 76, wrapper: state, "best": 0.5}))
    assert found.keys() == state.keys()
    assert all(torch.equal(found[n], v) for n, v in state.items())


def test_a_plain_file_and_a_safetensors_file_agree(tmp_path):
    state = weights(network("wrn-10-1", 1))
    one = read_state_dict(*saved(tmp_path / "a.pt", state))
    save_file(state, tmp_path / "a.bin")
    two = read_state_dict(tmp_path / "a.bin", compute_sha256(tmp_path / "a.bin"))
    assert one.keys() == two.keys() and all(torch.equal(one[n], two[n]) for n in one)


class Anything:
    """What a pickle must not bring with it."""


ACCIDENTS = {
    "<!DOCTYPE html><html>Quota exceeded": "is an HTML page saved as a checkpoint .*; open the",
    "\ufeff\n <HTML><head>": "is an HTML page saved as a checkpoint",
    "version https://git-lfs.github.com/spec/v1\noid": "is a Git LFS pointer, not the file; fetch",
    "no checkpoint at all": "holds more than tensors, or is no checkpoint",
}


@pytest.mark.parametrize("text", ACCIDENTS)
def test_what_is_no_checkpoint_is_named(tmp_path, text):
    path = tmp_path / "model.pt"
    path.write_text(text)
    with pytest.raises(RetortError, match="model.pt: " + ACCIDENTS[text]):
        read_state_dict(path, compute_sha256(path))


def test_other_accidents_with_files(tmp_path):
    path, digest = saved(tmp_path / "model.pt", weights(network("wrn-10-1", 1)))
    with pytest.raises(RetortError, match="nowhere.pt: no such checkpoint; set checkpoint.path"):
        read_state_dict(tmp_path / "nowhere.pt", digest)
    with pytest.raises(RetortError, match=f"sha256 is {digest}, expected {'0' * 64}; download"):
        read_state_dict(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(RetortError, match="model.pt: cannot be read .*; download it again"):
        read_state_dict(path, compute_sha256(path))
    path.write_bytes((100).to_bytes(8, "little") + b'{"a": 1')
    with pytest.raises(RetortError, match="model.pt: cannot be read"):
        read_state_dict(path, compute_sha256(path))
    with pytest.raises(
        RetortError, match="holds more than tensors.*retort import .*--take state_dict --sha256"
    ):
        read_state_dict(*saved(path, {"state_dict": Anything()}))
    with pytest.raises(RetortError, match="'epoch' is int, no tensor; save model.state_dict"):
        read_state_dict(*saved(path, {"epoch": 3}))
    with pytest.raises(RetortError, match="holds no dict of tensors"):
        read_state_dict(*saved(path, [torch.zeros(1)]))


def test_a_name_is_found_once_however_it_is_wrapped():
    own = weights(network("wrn-10-1", 1))
    assert checkpoint_files.map_to_own_name("module.model.fc.bias", own) == "fc.bias"
    assert checkpoint_files.map_to_own_name("module.sub_block1.layer.0.bn1.weight", own) is None
    assert checkpoint_files.map_to_own_name("module.encoder.fc.bias", own) is None
