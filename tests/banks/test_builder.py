"""A bank's samples against values by hand: start, step, projection, filter, rates, cost."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from pipeline.banks.builder import BankBuilder, compute_flip_share
from pipeline.banks.view_outputs import launch_view_outputs
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import normalise_samples
from pipeline.data.splits import Split
from pipeline.stages.build_bank import compute_bank_facts
from pipeline.store.artefact import Job
from tests.helpers.bank_store import images, quantiser, teacher

SIDE, CLASSES, COUNT = 4, 3, 12
ATTACK = {
    "norm": "l2",
    "eps": 0.5,
    "step": 0.5,
    "steps": 1,
    "start_probability": 0.8,
    "grad_path": "identity",
}


class Grid(nn.Module):
    """A discretizer that rounds pixels to multiples of 1/levels; 255 levels are the identity here.

    It counts its passes. One token stands for one pixel.
    """

    def __init__(self, levels: int):
        super().__init__()
        self.levels, self.encoded, self.decoded = levels, 0, 0

    def encode_to_tokens(self, x: Tensor) -> Tensor:
        self.encoded += 1
        return (x * self.levels).round().long().flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        q = self.decode_tokens(self.encode_to_tokens(x))
        return q.detach() + x - x.detach()

    def decode_tokens(self, tokens: Tensor) -> Tensor:
        self.decoded += 1
        return (tokens.float() / self.levels).view(-1, 3, SIDE, SIDE)


class Linear(nn.Module):
    """A linear teacher that counts its forwards and their images."""

    def __init__(self):
        super().__init__()
        self.weight = torch.randn(3 * SIDE**2, CLASSES, generator=make_generator("bank teacher"))
        self.forwards, self.images, self.gradients = 0, 0, 0

    def forward(self, x: Tensor) -> Tensor:
        self.forwards, self.images = self.forwards + 1, self.images + len(x)
        if x.requires_grad:
            x.register_hook(self.count_gradient)
        return (x - 0.5).flatten(1) @ self.weight

    def count_gradient(self, grad: Tensor) -> None:
        self.gradients += 1


def maker(
    levels: int = 255, reject: str = "drop", form: dict | None = None, **attack
) -> BankBuilder:
    """A bank builder over random images with given models; ``form`` changes the spec."""
    spec = {
        "seed": 5,
        "device": "cpu",
        "reject": reject,
        "shards": 1,
        "block": COUNT,
        "attack": {**ATTACK, **attack},
        **(form or {}),
    }
    job = Job(Path(), "bank", "b", "k", spec, {"discretizer": Path()}, {})
    images = torch.randint(0, 256, (COUNT, 3, SIDE, SIDE), generator=make_generator("bank images"))
    made = BankBuilder(job)
    made.__dict__["teacher"], made.__dict__["discretizer"] = Linear(), Grid(levels)
    x = images.float() / 255
    labels = made.teacher(x).argmax(1)
    made.teacher.forwards = made.teacher.images = 0
    made.__dict__["split"] = Split(images.to(torch.uint8), labels)
    return made


def pixels_of(made: BankBuilder) -> Tensor:
    return made.split.images.float() / 255


def plain_delta(made: BankBuilder, q: Tensor, rows: range) -> Tensor:
    """Q(x) + delta, written out for one L2 step on the teacher's cross-entropy."""
    moved = []
    for image, row, y in zip(q, rows, made.split.labels[rows.start : rows.stop], strict=True):
        rng = make_generator(5, "bank", row)
        start = image
        if torch.rand((), generator=rng).item() < 0.8:
            noise = torch.randn((1, 3, SIDE, SIDE), generator=rng)
            start = (image + 0.5 * normalise_samples(noise)[0]).clamp(0, 1)
        z = start.clone().requires_grad_()
        loss = nn.functional.cross_entropy((z - 0.5).flatten() @ made.teacher.weight, y)
        (grad,) = torch.autograd.grad(loss, z)
        delta = start + 0.5 * grad / grad.norm() - image
        moved.append((image + delta * min(1.0, 0.5 / delta.norm().item())).clamp(0, 1))
    return torch.stack(moved)


def test_with_the_identity_for_q_a_sample_is_x_plus_delta():
    made = maker(reject="keep")
    block, _ = made.build_block(range(COUNT), False)
    expected = (plain_delta(made, pixels_of(made), range(COUNT)) * 255).round()
    kept = made.teacher(expected / 255).argmax(1) == made.split.labels
    stored = torch.from_numpy(block["x_adv"]).float()
    assert kept.any()
    assert (stored[kept] - expected[kept]).abs().max() <= 1


def test_a_samples_start_depends_on_its_row_alone():
    made = maker(reject="keep")
    whole, _ = made.build_block(range(COUNT), True)
    parts = [made.build_block(range(a, a + 4), False)[0]["x_adv"] for a in (0, 4, 8)]
    assert (
        torch.from_numpy(whole["x_adv"]) == torch.cat([torch.from_numpy(p) for p in parts])
    ).all()


def test_the_filter_drops_what_the_teacher_no_longer_knows():
    """The teacher never predicts these labels: every sample is rejected and none is stored."""
    made = maker()
    made.__dict__["split"] = Split(made.split.images, (made.split.labels + 1) % CLASSES)
    block, counts = made.build_block(range(COUNT), False)
    wrong = made.teacher(torch.from_numpy(block["x_adv"]).float() / 255).argmax(1)
    assert (wrong == made.split.labels[torch.from_numpy(block["accepted"])]).all()
    assert counts["accepted"] == block["accepted"].sum() < COUNT
    assert len(block["x_adv"]) == len(block["t_adv"]) == counts["accepted"]
    assert len(block["t_clean"]) == COUNT


def test_kept_samples_fall_back_to_q_of_x():
    made = maker(levels=51, reject="keep")
    unlikely = made.teacher(pixels_of(made)).argmin(1)
    made.__dict__["split"] = Split(made.split.images, unlikely)
    block, counts = made.build_block(range(COUNT), False)
    q = made.discretizer.decode_tokens(made.discretizer.encode_to_tokens(pixels_of(made)))
    assert counts["accepted"] == 0
    assert block["accepted"].all()
    assert (torch.from_numpy(block["x_adv"]) == (q * 255).round().to(torch.uint8)).all()


def test_stored_outputs_are_the_teachers_on_the_stored_pixels():
    made = maker(levels=51)
    block, _ = made.build_block(range(COUNT), False)
    again = made.teacher(torch.from_numpy(block["x_adv"]).float() / 255)
    clean = made.teacher(pixels_of(made))
    torch.testing.assert_close(torch.from_numpy(block["t_adv"]), again.half())
    torch.testing.assert_close(torch.from_numpy(block["t_clean"]), clean.half())
    assert block["row"].tolist() == list(range(COUNT))
    assert block["label"].tolist() == made.split.labels.tolist()


@pytest.mark.parametrize(("first", "encoded"), [(False, 2), (True, 3)])
def test_a_block_costs_two_passes_of_q_and_three_of_the_teacher(first, encoded):
    """One pass has a gradient, one filters and is stored, one is on the clean images."""
    made = maker()
    made.build_block(range(COUNT), first)
    assert (made.discretizer.encoded, made.discretizer.decoded) == (encoded, 2)
    assert (made.teacher.forwards, made.teacher.gradients) == (3, 1)


UNCLEAN = {"outputs": {"top_k": 0, "temperature": 1.0, "clean": False}}
TOP = {"outputs": {"top_k": 1, "temperature": 1.0, "clean": True, "classes": CLASSES}}
FLOORS = {  # form, attack -> passes of encoder, decoder, teacher, gradients of the teacher
    "no clean outputs": (UNCLEAN, {}, (2, 2, 2, 1)),
    "top 1": (TOP, {}, (2, 2, 3, 1)),
    "png": ({"encoding": "png"}, {}, (2, 2, 3, 1)),
    "jpeg": ({"encoding": "jpeg"}, {}, (2, 2, 3, 1)),
    "three steps": ({}, {"steps": 3, "step": 0.2}, (2, 2, 5, 3)),
    "ste": ({}, {"grad_path": "ste"}, (3, 3, 3, 1)),
    "noise alone": ({}, {"steps": 0}, (2, 2, 2, 0)),
    "Q(x)": ({"attack": None}, {}, (1, 1, 2, 0)),
    "Q(x) without clean outputs": ({"attack": None, **UNCLEAN}, {}, (1, 1, 1, 0)),
}


@pytest.mark.parametrize("name", FLOORS)
def test_every_form_is_at_its_floor(name):
    form, attack, floor = FLOORS[name]
    made = maker(form=form, **attack)
    made.build_block(range(COUNT), False)
    q, teacher = made.discretizer, made.teacher
    assert (q.encoded, q.decoded, teacher.forwards, teacher.gradients) == floor


def test_a_bank_of_outputs_costs_one_forward():
    made = maker()
    del made.job.spec["attack"], made.job.spec["reject"]
    block, counts = made.build_block(range(COUNT), True)
    assert set(block) == {"row", "label", "t_clean"}
    assert counts == {"rows": COUNT, "clean_right": COUNT}
    assert (made.discretizer.encoded, made.discretizer.decoded, made.teacher.forwards) == (0, 0, 1)


def test_keeping_costs_a_forward_of_the_rejected_alone():
    made = maker(reject="keep")
    wrong = torch.arange(COUNT) % 4 == 0
    labels = torch.where(wrong, made.teacher(pixels_of(made)).argmin(1), made.split.labels)
    made.__dict__["split"] = Split(made.split.images, labels)
    made.teacher.images = 0
    _, counts = made.build_block(range(COUNT), False)
    assert (made.discretizer.encoded, made.discretizer.decoded) == (2, 2)
    assert made.teacher.images == 3 * COUNT + COUNT - counts["accepted"]
    assert 0 < counts["accepted"] < COUNT


def test_views_cost_a_forward_each():
    views = {"count": 3, "augment": "flip", "rand_augment": 0, "mixup": 0.0, "cutmix": 0.0}
    made = maker(form={"views": views})
    ((_, launched),) = launch_view_outputs(made, [(0, *made.build_block(range(COUNT), False))])
    block, counts = launched.fetch()
    accepted = counts["accepted"]
    assert made.teacher.images == 2 * COUNT + 3 * COUNT + 3 * accepted
    assert block["t_clean"].shape == (COUNT, 3, CLASSES)
    assert block["t_adv"].shape == (accepted, 3, CLASSES)


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_samples_before_q_stay_in_the_ball_around_q(norm):
    made = maker(norm=norm, eps=0.05, step=0.05)
    q = pixels_of(made)
    delta = made.attack_images(q, made.split.labels, range(COUNT)) - q
    size = delta.flatten(1).norm(dim=1) if norm == "l2" else delta.flatten(1).abs().amax(1)
    assert size.max() <= 0.05 + 1e-6
    assert size.min() > 0


def test_ste_ascends_through_decoder_and_encoder():
    """One step of Q(x) from the gradient of CE(T(D(z_q))), z_q = z + sg(e - z), written out."""
    made, q = maker(start_probability=0.0, grad_path="ste", eps=0.3, step=0.3), quantiser()
    net, x = teacher(), images()[:COUNT].float() / 255
    made.__dict__["teacher"], made.__dict__["discretizer"] = net, q
    with torch.no_grad():
        centre, y = q.reconstruct(x), net(x).argmax(1)
    moved = centre.clone().requires_grad_()
    z = q.encode(moved)
    z_q = z + (q.embed_tokens(q.find_nearest_tokens(z)) - z).detach()
    (grad,) = torch.autograd.grad(nn.functional.cross_entropy(net(q.decode(z_q)), y), moved)
    expected = (centre + 0.3 * normalise_samples(grad)).clamp(0, 1)
    torch.testing.assert_close(made.attack_images(centre, y, range(COUNT)), expected)
    plain = maker(start_probability=0.0, eps=0.3, step=0.3)
    plain.__dict__["teacher"], plain.__dict__["discretizer"] = net, q
    assert not torch.allclose(plain.attack_images(centre, y, range(COUNT)), expected, atol=1e-4)


def test_linf_takes_signs_and_stays_in_the_box():
    made = maker(norm="linf", eps=0.1, step=0.06, steps=2, start_probability=0.0)
    x, y = pixels_of(made), made.split.labels
    z = x.clone()
    for _ in range(2):
        z = z.detach().requires_grad_()
        loss = nn.functional.cross_entropy((z - 0.5).flatten(1) @ made.teacher.weight, y)
        (grad,) = torch.autograd.grad(loss, z)
        z = torch.max(torch.min(z + 0.06 * grad.sign(), x + 0.1), x - 0.1).clamp(0, 1)
    torch.testing.assert_close(made.attack_images(x, y, range(COUNT)), z.detach())


def test_shares_and_rates_by_hand():
    assert (
        compute_flip_share(torch.tensor([[1, 2, 3, 4]]), torch.tensor([[1, 0, 3, 0]])).item() == 0.5
    )
    totals = {"rows": 10, "accepted": 4, "clean_right": 7, "flips": 3.0, "change": 0.5}
    probe = {"probed": 2, "probed_requantised": 0.5, "probed_flips": 0.9}
    found = compute_bank_facts(totals | probe)
    assert (found["acceptance"], found["token_flips"], found["pixel_change"]) == (0.4, 0.3, 0.05)
    assert found["teacher_clean_accuracy"] == 0.7
    assert compute_bank_facts({"rows": 3, "clean_right": 3}) == {
        "rows": 3,
        "teacher_clean_accuracy": 1.0,
    }
    assert found["token_flips_beyond"] == pytest.approx(0.45 - 0.25)
