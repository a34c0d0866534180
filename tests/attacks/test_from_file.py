"""Attacked images made elsewhere: read in any form, verified against the clean ones, judged."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from pipeline.attacks import from_file
from pipeline.core.attack_protocol import AttackPoint, find_norm, predict_classes, run_attack
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report.attack_labels import format_attack_at
from pipeline.trials.attack import check_point
from tests.attacks.test_every_attack import small_net
from tests.helpers.graph import tiny
from tests.stages.test_evaluate import evaluate, job  # noqa: F401 (a fixture)

EPS = 8 / 255
COUNT = 6


@pytest.fixture
def clean() -> torch.Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (COUNT, 3, 16, 16), generator=rng, dtype=torch.uint8)


def change(clean: torch.Tensor, levels: int = 8) -> torch.Tensor:
    """Images as uint8, each pixel as many levels away as the range allows."""
    return torch.where(clean < 128, clean + levels, clean - levels)


def write(path: Path, images: np.ndarray, **more: np.ndarray) -> Path:
    if path.suffix == ".npz":
        np.savez(path, x_adv=images, **more)
    else:
        save_file({"x_adv": np.ascontiguousarray(images), **more}, path)
    return path


def attack_of(path: Path, **options) -> from_file.Attack:
    return from_file.Attack(path=str(path), name="mine", **options)


FORMS = {
    "bytes": lambda z: z.numpy(),
    "floats": lambda z: (z.float() / 255).numpy(),
    "colours last": lambda z: z.numpy().transpose(0, 2, 3, 1),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_images_are_read_in_any_form_and_judged(form, suffix, clean, tmp_path):
    attacked, y = change(clean), torch.arange(COUNT) % 3
    path = write(tmp_path / f"a{suffix}", FORMS[form](attacked), label=y.numpy())
    net, attack = small_net(classes=3, size=16), attack_of(path)
    attack.check_test_images(clean, y)
    rows = range(2, 5)
    x = clean[2:5].float() / 255
    ((point, found),) = run_attack(attack, net, x, y[2:5], 0, None, rows).items()
    assert point == AttackPoint("from_file", EPS, variant="mine")
    assert format_attack_at(point) == "from file (mine) at 8/255"
    assert torch.equal(found, predict_classes(net, attacked[2:5].float() / 255))


def change_one(z: np.ndarray, clean: torch.Tensor) -> np.ndarray:
    z = z.copy()
    z[4, 0, 0, 0] = 0 if clean[4, 0, 0, 0] > 128 else 255
    return z


BAD = {
    "a larger radius": (change_one, {}, "image 4 is 0."),
    "too few": (lambda z, x: z[:3], {}, "3 images, 6 test images are attacked; set n_eval: 3"),
    "another size": (lambda z, x: z[:, :, :8, :8], {}, "the test images are (6, 3, 16, 16)"),
    "floats above 1": (lambda z, x: z.astype("f4"), {}, "not in [0,1]; divide by 255"),
    "floats as bytes": (lambda z, x: np.uint8(z / 255), {}, "no pixel above 1: images of [0,1]"),
    "whole numbers": (lambda z, x: z.astype("i8"), {}, "is int64; floats in [0,1] or uint8"),
    "another order": (lambda z, x: z[::-1], {}, "is the order that of the test images?"),
    "no number": (lambda z, x: np.full(z.shape, np.nan, "f4"), {}, "no finite numbers"),
    "three axes": (lambda z, x: z[:, 0], {}, "images (N,C,H,W) or (N,H,W,C) are expected"),
    "labels in words": (lambda z, x: z, {"y": np.array(["cat"] * COUNT)}, "'y' holds other than"),
    "shares for labels": (lambda z, x: z, {"y": np.full(COUNT, 0.5)}, "'y' holds other than whole"),
    "other labels": (lambda z, x: z, {"label": np.arange(COUNT)}, "its labels are not those of"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_told_before_anything_is_predicted(case, clean, tmp_path):
    make, more, message = BAD[case]
    path = write(tmp_path / "a.npz", make(change(clean).numpy(), clean), **more)
    with pytest.raises(RetortError) as caught:
        attack_of(path).check_test_images(clean, torch.zeros(COUNT, dtype=torch.long))
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text and "\n" not in text


def test_an_l2_radius_is_the_length_of_the_change(clean, tmp_path):
    path = write(tmp_path / "a.npz", change(clean, 1).numpy())
    length = (3 * 16 * 16) ** 0.5 / 255
    attack = attack_of(path, norm="l2", eps=length)
    attack.check_test_images(clean, torch.zeros(COUNT))
    net, x = small_net(classes=3, size=16), clean.float() / 255
    (point,) = run_attack(attack, net, x, torch.zeros(COUNT, dtype=torch.long), 0)
    assert find_norm(point) == "L2"
    assert format_attack_at(point) == f"from file (mine, L2) at {length:.4g}"
    check_point(attack, "from_file", point)
    with pytest.raises(RetortError, match="in l2, farther than eps"):
        replace(attack, eps=0.4 * length).check_test_images(clean, torch.zeros(COUNT))


@pytest.mark.parametrize("eps", [-0.1, float("nan")])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_radius_that_cannot_be_meant_is_refused(norm, eps):
    with pytest.raises(ValueError, match="eps: .* is negative"):
        from_file.Attack(norm=norm, eps=eps)


def test_a_name_cannot_pretend_a_norm():
    with pytest.raises(ValueError, match="name: 'mine, L2' ends with a norm; name that in 'norm'"):
        from_file.Attack(name="mine, L2")


def test_a_file_that_is_called_like_a_norm_needs_a_name(tmp_path, clean):
    attack = from_file.Attack(path=str(write(tmp_path / "L2.npz", clean.numpy())))
    with pytest.raises(
        RetortError, match="path: L2.npz ends with a norm; give the attack a 'name'"
    ):
        attack.find_files(tmp_path)
    assert replace(attack, name="mine").find_files(tmp_path).name == "mine"


def test_an_evaluation_stops_before_its_first_chunk(job, tmp_path):  # noqa: F811
    path = write(tmp_path / "a.npz", np.zeros((10, 3, 16, 16), np.float32))
    options = {"eps": EPS, "norm": "linf", "array": "x_adv", "name": "a", "sha256": "0" * 64}
    job.spec["attacks"] = [{"clean": {}}, {"from_file": options}]
    job.run["attack.1.path"] = str(path)
    with pytest.raises(RetortError, match="farther than eps"):
        evaluate.run(job)
    assert not list(job.state_folder.glob("*.parquet"))


def test_a_plan_puts_the_sum_in_the_key_and_the_path_in_none(tmp_path):
    def plan(path: Path):
        raw = tiny()
        raw["suites"]["own"] = {
            "attacks": [{"from_file": {"path": str(path)}}],
            "models": "students",
        }
        return make_plan_from_dict(raw)

    with pytest.raises(RetortError, match=r"suites.own.attacks.0.from_file.path: .*a.npz does not"):
        plan(tmp_path / "a.npz")
    made = np.zeros((2, 3, 16, 16), np.uint8)
    first = plan(write(tmp_path / "a.npz", made))
    (tmp_path / "b").mkdir()
    (tmp_path / "a.npz").rename(tmp_path / "b" / "a.npz")
    second = plan(tmp_path / "b" / "a.npz")
    assert first.artefacts.keys() == second.artefacts.keys()
    third = plan(write(tmp_path / "a.npz", made + 1))
    assert first.artefacts.keys() != third.artefacts.keys()
    (ref,) = {r for (_, n), r in second.refs_by_name.items() if n == "natural-0.own"}
    evaluation = second.artefacts[ref]
    assert "path" not in evaluation.spec["attacks"][0]["from_file"]
    assert evaluation.outside_paths == {"attack.0.path": str(tmp_path / "b" / "a.npz")}
    with pytest.raises(RetortError, match="neither .npz nor .safetensors"):
        plan(tmp_path / "a.png")
    (tmp_path / "c.npz").write_bytes(b"no archive")
    with pytest.raises(RetortError, match="c.npz: not a readable .npz file"):
        from_file.read_file(str(tmp_path / "c.npz"), "x_adv")
