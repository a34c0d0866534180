"""Own networks whose gradients mislead are found before anything is made, and get transfers."""

import logging

import pytest
import torch

from pipeline.discovery import use_plugin_folders
from pipeline.planning.gradient_trial import try_gradients
from pipeline.planning.graph import make_plan_from_dict
from tests.helpers.graph import tiny
from tests.helpers.own import SMALLEST, mine, write

__all__ = ["mine"]

SOUND = SMALLEST["architectures"]
CHANGES = {  # what a defence does to its images before the first convolution
    "quantised": "(x * 15).round() / 15",
    "straight_through": "x + ((x * 15).round() / 15 - x).detach()",
    "noisy": "x + 0.1 * torch.randn_like(x)",
    "smoothed": "x + 0.1 * torch.randn_like(x.mean(0, keepdim=True))",
    "detached": "x.detach()",
    "jpeg": "torch.stack([compress(image) for image in x])",
}
COMPRESS = '''
def compress(image):
    """An image (C,H,W) written as JPEG and read."""
    file = io.BytesIO()
    levels = (image.detach() * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(levels).save(file, "JPEG", quality=50)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
'''
IMPORTS = "import io\n\nimport numpy as np\nimport torch\nfrom PIL import Image\n"


def defend(change: str) -> str:
    """The smallest architecture behind a change of its images."""
    text = SOUND.replace("self.conv(x)", f"self.conv({change})")
    assert text != SOUND
    return text.replace("from torch", f"{IMPORTS}from torch", 1) + COMPRESS


def defended(models: str, **more) -> dict:
    """The tiny experiment, in which the student kd and the teacher natural are JPEG defences."""
    raw = tiny() | {"plugins": "my_methods/", **more}
    raw["students"]["kd"]["model"] = raw["teachers"]["natural"]["model"] = "jpeg"
    raw["suites"]["main"] |= {"models": models}
    return raw


def transfers(raw: dict) -> dict[str, list[dict]]:
    """Attacks of the evaluations from another model, by name."""
    plan = make_plan_from_dict(raw)
    return {
        name: plan.artefacts[ref].spec["attacks"]
        for (kind, name), ref in plan.refs_by_name.items()
        if kind == "evaluation" and "-from-" in name
    }


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_a_defence_is_recognised_by_its_code(name, mine):
    write(mine, f"architectures/{name}.py", defend(CHANGES[name]))
    use_plugin_folders([mine])
    before = torch.random.get_rng_state()
    assert not try_gradients(name, 10, (3, 32, 32))
    assert torch.random.get_rng_state().equal(before)


@pytest.mark.parametrize("head", ["", "\n        nn.init.zeros_(self.linear.weight)"])
def test_a_sound_network_is_trusted_whatever_its_head_starts_at(head, mine):
    line = "self.linear = nn.Linear(16, classes)"
    write(mine, "architectures/sound.py", SOUND.replace(line, line + head))
    use_plugin_folders([mine])
    assert try_gradients("sound", 10, (3, 32, 32))


def test_a_defence_meets_pgd_from_every_other_model_that_has_gradients(mine, caplog):
    caplog.set_level(logging.INFO, "retort.plan")
    write(mine, "architectures/jpeg.py", defend(CHANGES["jpeg"]))
    found = transfers(defended("students"))
    others = (
        "robust",
        "clip",
        "natural-0",
        "dad",
        "rslad",
        "adaad",
        "derd",
    )  # the teacher natural is one too
    assert found.keys() == {f"kd-0.main-from-{name}" for name in others}
    (attack,) = found["kd-0.main-from-robust"]
    pgd = attack["pgd"]
    assert (pgd["eps"], pgd["step"], pgd["steps"], pgd["n_eval"]) == (8 / 255, 2 / 255, 20, 200)
    assert (
        "suites.main: gradients of 'kd-0' mislead: adds Square, and PGD-20 from robust, clip, "
    ) in caplog.text


def test_nothing_is_added_without_gradient_attacks_or_where_there_is_a_surrogate(mine):
    write(mine, "architectures/jpeg.py", defend(CHANGES["jpeg"]))
    raw = defended("kd")
    raw["suites"]["main"] |= {"surrogate": "robust"}
    assert not transfers(raw)
    raw = defended("kd")
    raw["suites"]["main"] |= {"attacks": ["clean", "square", "corruptions"]}
    assert not transfers(raw)


def test_a_line_says_why_there_is_no_transfer(mine, caplog):
    caplog.set_level(logging.INFO, "retort.plan")
    write(mine, "architectures/jpeg.py", defend(CHANGES["jpeg"]))
    raw = defended("teachers")
    for section in ("students", "generators", "banks", "discretizers"):
        raw[section] = {}
    raw["teachers"] = {"natural": raw["teachers"]["natural"]}
    assert not transfers(raw)
    assert (
        "gradients of 'natural' mislead: adds Square, but no transfer attack, since no other model "
        "knows its classes and has gradients; add a teacher that does"
    ) in caplog.text


def test_transfers_are_added_on_another_data_set_s_images_too(mine):
    write(mine, "architectures/jpeg.py", defend(CHANGES["jpeg"]))
    raw = defended("kd")
    raw["datasets"]["other"] = raw["datasets"]["tiny"] | {"test": 32}
    raw["suites"]["main"]["dataset"] = "other"
    plan = make_plan_from_dict(raw)
    found = plan.artefacts[plan.refs_by_name["evaluation", "kd-0.main-from-robust"]]
    assert found.spec["shifted"] and found.inputs["dataset"].name == "other"
    assert "pipeline.report.distribution_shift" in found.components
