"""Banks in pixel space: each loss by hand, rounding within the ball, filter, costs, the files."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.banks.builder import BankBuilder
from pipeline.banks.pixel_attack import attack_images, round_into_ball
from pipeline.banks.reader import read_bank
from pipeline.banks.shards import shard_name
from pipeline.config.sections.bank import BankAttackSettings
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import L2, Linf
from pipeline.data.splits import Split
from pipeline.models.classifier import MODEL_FILE, initialise_classifier, save_classifier
from pipeline.stages import build_bank
from pipeline.stages.build_bank import compute_bank_facts
from pipeline.store.artefact import MANIFEST_FILE, Job, read_job, write_json, write_manifest
from tests.banks.test_builder import COUNT, SIDE, Linear, pixels_of
from tests.cli.test_bank_tools import tool
from tests.helpers import bank_store
from tests.helpers.bank_store import BASE, COLOURS, NAMES, ROWS, key_of, shards_of, store_in

ATTACK = {"norm": "linf", "eps": 8 / 255, "step": 2 / 255, "steps": 10, "start_probability": 1.0}
PIXELS = {**BASE, "attack": ATTACK, "reject": "none"}


class Pair(nn.Module):
    """Two classes by the first two pixels: logits (a p, b q)."""

    def __init__(self, a: float, b: float):
        super().__init__()
        self.factors = torch.tensor([a, b])

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, :2] * self.factors


def pair_image(*levels: int) -> Tensor:
    """One image of one channel whose pixels have these levels."""
    return torch.tensor(levels).view(1, 1, 1, -1) / 255


def moved_by(loss: str, teacher: nn.Module, attacked: nn.Module, **attack) -> list[int]:
    """The change of each pixel, in levels, of an image (100, 150) of class 0, from itself."""
    x = pair_image(100, 150)
    settings = BankAttackSettings(**{**ATTACK, "steps": 1, "loss": loss, **attack})
    given = x, torch.tensor([0]), x, (teacher, attacked), Linf(settings.eps)
    return (255 * (attack_images(*given, settings) - x)).round().int().flatten().tolist()


def test_a_step_of_each_loss_by_hand():
    """With d = a p - b q, all losses see the image through d alone.

    ce: -log sigmoid(d) falls with d, so p falls and q rises where a, b > 0.
    rslad: KL(s || sigmoid(d)) with s = sigmoid(d_T(x)) has slope sigmoid(d) - s in d: here d_T(x) =
    (200 - 150)/255 > d_A(x) = (100 - 300)/255, so it rises as d_A falls: p down, q up.
    """
    teacher, attacked = Pair(2.0, 1.0), Pair(1.0, 2.0)
    assert moved_by("ce", teacher, teacher) == [-2, 2]
    assert moved_by("ce", teacher, Pair(-1.0, 0.0)) == [2, 0]
    assert moved_by("rslad", teacher, attacked) == [-2, 2]
    assert moved_by("rslad", Pair(1.0, 2.0), Pair(2.0, 1.0)) == [2, -2]


def test_adaad_s_gradient_flows_through_both_networks():
    """KL(sigmoid(u) || sigmoid(d)), u = T's gap and d = A's: sigma'(u) (u - d) du + (s_d - s_u) dd.

    T = (3, 0), A = (1, 0): u = 3p, d = p, p = 100/255. The slope in p is
    3 sigma'(u) (u - d) + (sigma(d) - sigma(u)) = 3 * 0.1805 * 0.7843 - 0.1675 > 0. RSLAD's has the
    second part alone, which is negative, so the two move p in opposite ways.
    """
    u, d = 3 * 100 / 255, 100 / 255
    s = torch.sigmoid(torch.tensor([u, d], dtype=torch.float64))
    slope = 3 * s[0] * (1 - s[0]) * (u - d) + s[1] - s[0]
    assert slope == pytest.approx(0.257, abs=1e-3)
    assert moved_by("adaad", Pair(3.0, 0.0), Pair(1.0, 0.0)) == [2, 0]
    assert moved_by("rslad", Pair(3.0, 0.0), Pair(1.0, 0.0)) == [-2, 0]


def test_steps_add_up_to_the_radius_and_no_further():
    assert moved_by("ce", Pair(2.0, 1.0), Pair(2.0, 1.0), steps=10) == [-8, 8]
    assert moved_by("ce", Pair(2.0, 1.0), Pair(2.0, 1.0), steps=10, eps=0.01) == [-2, 2]


def test_rounding_stays_within_linf():
    """A radius of 1.6 levels: 1.6 would round to 2; 1 is the last level within."""
    x = pair_image(100, 100, 0, 255)
    z = x + torch.tensor([1.6, -1.6, 0.4, -0.4]) / 255
    change = (round_into_ball(z, x, Linf(1.6 / 255)) - x) * 255
    assert change.flatten().tolist() == pytest.approx([1, -1, 0, 0], abs=1e-4)


def test_rounding_stays_within_l2():
    """Changes (2.6, 1.4, 1.7) of norm 3.41 round to (3, 1, 2), of norm sqrt(14) > 3.5.

    What was rounded up by most, 2.6 by 0.4, becomes 2: the norm is 3.
    """
    x = pair_image(100, 100, 100)
    z = x + torch.tensor([2.6, 1.4, -1.7]) / 255
    change = (round_into_ball(z, x, L2(3.5 / 255)) - x) * 255
    assert change.flatten().tolist() == pytest.approx([2, 1, -2], abs=1e-4)


@pytest.mark.parametrize("ball", [Linf(8 / 255), Linf(0.05), L2(0.1), L2(0.5), L2(2.0)], ids=str)
def test_a_rounded_point_of_any_ball_is_on_the_grid_and_in_the_ball(ball):
    rng = make_generator("rounded", str(ball))
    x = torch.randint(0, 256, (16, 3, 8, 8), generator=rng) / 255
    z = ball.project(x + 0.3 * torch.randn(x.shape, generator=rng), x)
    found = (255 * round_into_ball(z, x, ball).double()).flatten(1)
    levels = found - (255 * x.double()).round().flatten(1)
    assert (found - found.round()).abs().max() < 1e-4 and 0 <= found.min() <= found.max() < 255.001
    is_linf = isinstance(ball, Linf)
    size = levels.abs().amax(1) if is_linf else levels.norm(dim=1)
    assert (size <= 255 * ball.eps + 1e-3).all()
    assert (found - 255 * z.flatten(1)).abs().max() < 1.001
    assert size.min() > 0.8 * int(255 * ball.eps)


def pixel_maker(reject: str = "none", labels_off: int = 0, **inputs: Path) -> BankBuilder:
    """A builder of a bank in pixel space over random images, with a linear teacher."""
    spec = {**PIXELS, "seed": 5, "shards": 1, "block": COUNT, "reject": reject}
    made = BankBuilder(Job(Path(), "bank", "b", "k", spec, dict(inputs), {}))
    images = torch.randint(0, 256, (COUNT, 3, SIDE, SIDE), generator=make_generator("bank images"))
    made.__dict__["teacher"] = Linear()
    labels = (made.teacher(images / 255).argmax(1) + labels_off) % 3
    made.__dict__["split"] = Split(images.to(torch.uint8), labels)
    made.teacher.forwards = made.teacher.images = 0
    return made


def plain_samples(made: BankBuilder) -> Tensor:
    """PGD's samples written out: a uniform start of the row's own, ten signed steps."""
    found = []
    for row, (x, y) in enumerate(zip(pixels_of(made), made.split.labels, strict=True)):
        rng = make_generator(5, "bank", row)
        torch.rand((), generator=rng)
        noise = torch.rand((1, 3, SIDE, SIDE), generator=rng)[0]
        z = (x + (2 * noise - 1) * 8 / 255).clamp(0, 1)
        for _ in range(10):
            z = z.clone().requires_grad_()
            loss = nn.functional.cross_entropy((z - 0.5).flatten() @ made.teacher.weight, y)
            (grad,) = torch.autograd.grad(loss, z)
            z = z.detach() + 2 / 255 * grad.sign()
            z = torch.minimum(torch.maximum(z, x - 8 / 255), x + 8 / 255).clamp(0, 1)
        found.append((255 * z).round())
    return torch.stack(found)


def test_a_bank_holds_pgd_s_samples_and_the_teacher_s_outputs_on_them():
    made = pixel_maker()
    block, counts = made.build_block(range(COUNT), True)
    stored = torch.from_numpy(block["x_adv"])
    assert torch.equal(stored.float(), plain_samples(made))
    assert (stored.int() - made.split.images.int()).abs().max() == 8
    logits = made.teacher(stored / 255)
    assert torch.equal(torch.from_numpy(block["t_adv"]), logits.half())
    assert block["accepted"].all()  # none is dropped, although the teacher is fooled
    right = int((logits.argmax(1) == made.split.labels).sum())
    assert counts["accepted"] == right < COUNT
    change = (stored / 255 - pixels_of(made)).abs().mean().item()
    facts = compute_bank_facts(counts)
    assert facts["sample_change"] == pytest.approx(change)
    assert facts["acceptance"] == right / COUNT and "token_flips" not in facts


def test_a_bank_in_pixel_space_takes_its_own_block_s_rows_alone():
    made = pixel_maker()
    whole = made.build_block(range(COUNT), True)[0]["x_adv"]
    parts = [made.build_block(range(a, a + 4), False)[0]["x_adv"] for a in (0, 4, 8)]
    assert (torch.from_numpy(whole) == torch.cat([torch.from_numpy(p) for p in parts])).all()


def test_the_filter_of_a_bank_in_pixel_space():
    """`drop` stores what the teacher still knows, `keep` puts x in the place of the rest."""
    fooled = torch.from_numpy(pixel_maker().build_block(range(COUNT), True)[0]["x_adv"])
    made = pixel_maker("drop")
    right = made.teacher(fooled / 255).argmax(1) == made.split.labels
    assert 0 < right.sum() < COUNT
    block, _ = made.build_block(range(COUNT), True)
    assert torch.equal(torch.from_numpy(block["x_adv"]), fooled[right])
    block, _ = pixel_maker("keep").build_block(range(COUNT), True)
    expected = torch.where(right.view(-1, 1, 1, 1), fooled, made.split.images)
    assert torch.equal(torch.from_numpy(block["x_adv"]), expected)
    logits = made.teacher(expected / 255).half()
    torch.testing.assert_close(torch.from_numpy(block["t_adv"]), logits, atol=2e-3, rtol=2e-3)


def test_a_block_costs_ten_passes_there_and_back_and_two_more():
    """CE: 10 forward and backward, one on the sample, one on the clean image."""
    made = pixel_maker()
    made.build_block(range(COUNT), True)
    assert (made.teacher.forwards, made.teacher.gradients) == (12, 10)


def store_with_reference(folder: Path):
    """The made-up store, and a student of the same classes in it."""
    store = store_in(folder)
    model = initialise_classifier("resnet8-s2-w8", len(NAMES), *COLOURS.values(), 7)
    with torch.no_grad():
        list(model.parameters())[-2].mul_(8)
    path = store.folder("student", "reference") / MODEL_FILE
    save_classifier(model.eval(), path, "resnet8-s2-w8", NAMES)
    store.add("student", "reference", [MODEL_FILE], {})
    return store, model.eval()


def pixel_job(store, name: str = "made", against: bool = False, **spec: object) -> Job:
    """The job file of a bank in pixel space."""
    job = store.bank(name, **{**PIXELS, **spec})
    raw = {"dataset": "dataset/" + key_of("data"), "teacher": "teacher/" + key_of("teacher")}
    raw |= {"against": "student/" + key_of("reference")} if against else {}
    order = {"kind": "bank", "name": name, "key": key_of(name), "spec": job.spec, "inputs": raw}
    write_json(job.folder / "spec.json", {**order, "code": {}, "run": {}})
    return read_job(job.folder)


def test_a_bank_against_a_student_raises_its_discrepancy_from_the_teacher(tmp_path):
    store, student = store_with_reference(tmp_path)
    attack = {**ATTACK, "loss": "adaad"}
    made, plain = (
        pixel_job(store, "against", True, attack=attack),
        pixel_job(store, "on-teacher", encoding="png"),
    )
    found = []
    for job in (made, plain):
        write_manifest(job, build_bank.run(job))
        found.append(read_bank(job.folder).fields)
    x = bank_store.images().float() / 255
    gaps = []
    for fields in found:
        z = fields["x_adv"][torch.arange(ROWS)].float() / 255
        assert len(fields["row"]) == ROWS
        assert (255 * (z - x)).round().abs().max() == 8
        t, s = (m(z).log_softmax(1) for m in (bank_store.teacher(), student))
        gaps.append((t.exp() * (t - s)).sum(1).mean().item())
    t, s = (m(x).log_softmax(1) for m in (bank_store.teacher(), student))
    clean = (t.exp() * (t - s)).sum(1).mean().item()
    assert gaps[0] > max(gaps[1], clean)


def test_a_killed_bank_in_pixel_space_goes_on_to_the_same_bytes(tmp_path, monkeypatch):
    """SIGTERM during the second shard: the first stays, and the rest is as in a whole run."""
    store, _ = store_with_reference(tmp_path)
    whole = pixel_job(store, "whole", True, views={"count": 2})
    write_manifest(whole, build_bank.run(whole))
    job, launch = pixel_job(store, "made", True, views={"count": 2}), BankBuilder.launch_block

    def stop_once(self, rows, is_first):
        if rows.start == 16:
            os.kill(os.getpid(), signal.SIGTERM)
        return launch(self, rows, is_first)

    monkeypatch.setattr(BankBuilder, "launch_block", stop_once)
    with pytest.raises(SystemExit):
        build_bank.run(job)
    assert list(shards_of(job)) == ["shard-00000.tar"]
    assert not (job.folder / MANIFEST_FILE).exists()
    monkeypatch.setattr(BankBuilder, "launch_block", launch)
    write_manifest(job, build_bank.run(job))
    assert shards_of(job) == shards_of(whole)


def test_the_bank_s_tools_work_on_a_bank_in_pixel_space(tmp_path, capsys):
    """A deleted shard is named, mended and merged in; `info` counts; `decode` says why not."""
    store, _ = store_with_reference(tmp_path)
    job = pixel_job(store)
    write_manifest(job, build_bank.run(job))
    before, copied = shards_of(job), tmp_path / "copy" / "bank" / job.folder.name
    shutil.copytree(job.folder, copied)
    _, printed = tool("info", job.folder, capsys=capsys)
    for words in ("accepted", "sample change", f"rows                         {ROWS}"):
        assert words in printed
    assert "uint8 (8, 3, 32, 32) in the first block" in printed  # every row, fooled or not
    (job.folder / shard_name(1)).unlink()
    status, printed = tool("verify", job.folder, "--mend", capsys=capsys)
    assert status == 0 and "shard-00001.tar: is missing" in printed
    status, printed = tool("merge", job.folder, copied, capsys=capsys)
    assert status == 0 and "complete" in printed and shards_of(job) == before
    status, printed = tool("decode", job.folder, "--to", copied, capsys=capsys)
    assert status == 2 and "has no tokens" in printed
