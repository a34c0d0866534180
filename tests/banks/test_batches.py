"""Batches of a bank: clean pairs, labels, pairing, the same mixing on both sides, views."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import one_hot

from pipeline.banks.batches import JOINT_NEED, BankSource, ViewReplay
from pipeline.banks.stored_views import ImageSet, StoredViews
from pipeline.core.images import scale_to_unit_range
from pipeline.core.mixup import MixSettings
from pipeline.objectives import dad, dad_release
from tests.data.test_batches import EPOCHS, NOBODY, ROWS, SIZE, STEPS, assert_resumes, dataset, draw

ACCEPTED = torch.tensor([1, 2, 3, 5, 8, 13, 16, 19, 22])  # fewer samples than an epoch uses
STARTS = [0, 12, ROWS]  # first rows of the shards; samples 0 to 4 are in the first shard


def bank(
    augment: str = "none",
    paired: bool = False,
    mixing: MixSettings | None = None,
    together: bool = False,
) -> BankSource:
    """A bank whose ``t_adv`` identifies the sample."""
    count = len(ACCEPTED)
    stored = {
        "row": ACCEPTED,
        "t_clean": torch.arange(ROWS).half().view(-1, 1),
        "x_adv": draw(count, 2),
        "t_adv": torch.arange(count).half().view(-1, 1),
    }
    clean = dataset(augment)
    clean.schedule = replace(clean.schedule, mixing=mixing or MixSettings())
    return BankSource(clean, stored, paired, is_mixed_together=together)


def replayed(**views: float) -> BankSource:
    """A bank of two views, whose outputs identify the row or sample, and the view."""
    source = bank(mixing=MixSettings(classes=ROWS))
    made = StoredViews(
        7, 2, **{"augment": "crop_flip", "rand_augment": 0, "mixup": 0, "cutmix": 0} | views
    )
    clean = ImageSet(
        source.dataset_source.images, torch.arange(ROWS).numpy(), torch.tensor(STARTS).numpy()
    )
    starts = torch.tensor([0, 5, len(ACCEPTED)]).numpy()
    samples = ImageSet(source.stored_fields["x_adv"], ACCEPTED.numpy(), starts)
    source.replay = ViewReplay(made, (clean, samples))
    for name, count in (("t_clean", ROWS), ("t_adv", len(ACCEPTED))):
        ids = torch.arange(count).view(-1, 1, 1) + torch.tensor([0.0, 0.5]).view(1, 2, 1)
        source.stored_fields[name] = ids.half()
    return source


MODES = {
    "as stored": bank,
    "augmented": lambda: bank("crop_flip"),
    "paired": lambda: bank(paired=True),
    "mixed": lambda: bank("flip", mixing=MixSettings(mixup=0.8, cutmix=1.0, classes=ROWS)),
    "mixed together": lambda: bank(mixing=MixSettings(mixup=0.8, classes=ROWS), together=True),
    "replayed": lambda: replayed(mixup=0.8, cutmix=1.0, rand_augment=9),
}


@pytest.mark.parametrize("name", MODES)
@settings(max_examples=6)
@given(epoch=st.integers(0, EPOCHS - 1), start=st.integers(0, STEPS))
def test_a_run_resumes_bit_for_bit_from_anywhere(name, epoch, start):
    assert_resumes(MODES[name], epoch, start)


def test_a_bank_keeps_clean_pairs_and_its_own_permutation():
    source, rows = bank(), []
    for batch in source.iterate_batches(1, 0, NOBODY):
        assert torch.equal(batch.stored["t_clean"].flatten(), batch.index.float())
        taken = batch.stored["t_adv"].flatten().long()
        assert torch.equal(
            batch.stored["x_adv"], scale_to_unit_range(source.stored_fields["x_adv"][taken])
        )
        assert torch.equal(batch.stored["y_adv"], ACCEPTED[taken])
        rows += taken.tolist()
    assert len(rows) == STEPS * SIZE
    # Nine samples fill twenty places: two complete permutations and a part of a third.
    assert sorted(rows[:9]) == sorted(rows[9:18]) == list(range(9))
    assert rows[:9] != rows[9:18]


def test_augmented_images_come_without_stored_outputs():
    for batch in bank("flip").iterate_batches(0, 0, NOBODY):
        assert set(batch.stored) == {"x_adv", "y_adv"}


def test_a_bank_does_not_change_the_clean_stream():
    pairs = zip(
        dataset().iterate_batches(0, 0, NOBODY),
        bank("crop_flip").iterate_batches(0, 0, NOBODY),
        strict=True,
    )
    for one, two in pairs:
        assert torch.equal(one.x, two.x)
        assert torch.equal(one.index, two.index)


def test_pairs_stand_side_by_side_over_a_whole_epoch():
    source, seen = bank(paired=True), []
    assert source.steps == STEPS
    for batch in source.iterate_batches(0, 0, NOBODY):
        taken = batch.stored["t_adv"].flatten().long()
        assert torch.equal(batch.index, ACCEPTED[taken])
        assert torch.equal(batch.y, batch.stored["y_adv"])
        assert torch.equal(batch.x, scale_to_unit_range(source.dataset_source.images[batch.index]))
        assert torch.equal(batch.stored["t_clean"].flatten(), batch.index.float())
        seen += taken.tolist()
    assert sorted(seen[:9]) == list(range(9))


def test_a_bank_of_outputs_gives_those_alone():
    source = bank()
    alone = BankSource(source.dataset_source, {"t_clean": source.stored_fields["t_clean"]})
    for batch in alone.iterate_batches(0, 0, NOBODY):
        assert set(batch.stored) == {"t_clean"}
        assert torch.equal(batch.stored["t_clean"].flatten(), batch.index.float())


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_both_sides_are_mixed_apart_with_one_lambda(kind):
    source, plain = bank(mixing=MixSettings(**{kind: 1.0}, classes=ROWS)), bank()
    pairs = zip(
        source.iterate_batches(0, 0, NOBODY), plain.iterate_batches(0, 0, NOBODY), strict=True
    )
    for mixed, own in pairs:
        assert torch.equal(mixed.index, own.index)
        sides = [(mixed.x, own.x, mixed.y, own.y)]
        fields = [batch.stored[name] for name in ("x_adv", "y_adv") for batch in (mixed, own)]
        sides.append((fields[0], fields[1], fields[2], fields[3]))
        places, shares = [], []
        for x, before, y, label in sides:
            shares.append(y.gather(1, label.view(-1, 1)).flatten()[label != label.flip(0)])
            lam = shares[-1][0]
            if kind == "mixup":
                assert torch.allclose(x, before * lam + before.flip(0) * (1 - lam), atol=1e-6)
            else:
                places.append((x == before).all(1).all(0))
                assert torch.where(places[-1], x == before, x == before.flip(0)).all()
                assert places[-1].float().mean().item() == pytest.approx(lam.item(), abs=1e-6)
        assert torch.allclose(torch.cat(shares), shares[0][0])
        assert kind == "mixup" or torch.equal(*places)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_both_sides_mixed_together_give_each_image_a_sample(kind):
    """timm's order of one batch [x, x_adv] turned round: image i meets sample B - 1 - i."""
    mixing = MixSettings(**{kind: 1.0}, classes=ROWS)
    pairs = zip(
        bank(mixing=mixing, together=True).iterate_batches(0, 0, NOBODY),
        bank().iterate_batches(0, 0, NOBODY),
        strict=True,
    )
    for mixed, own in pairs:
        x, x_adv = own.x, own.stored["x_adv"]
        hot, hot_adv = (one_hot(y, ROWS).float() for y in (own.y, own.stored["y_adv"]))
        differ = own.y != own.stored["y_adv"].flip(0)
        lam = mixed.y[differ].gather(1, own.y[differ].view(-1, 1)).flatten()
        assert torch.allclose(lam, lam[0])
        lam = lam[0].item()
        for found, before, other in (
            (mixed.y, hot, hot_adv),
            (mixed.stored["y_adv"], hot_adv, hot),
        ):
            assert torch.allclose(found, lam * before + (1 - lam) * other.flip(0), atol=1e-6)
        for found, before, other in ((mixed.x, x, x_adv), (mixed.stored["x_adv"], x_adv, x)):
            partner = other.flip(0)
            if kind == "mixup":
                assert torch.allclose(found, lam * before + (1 - lam) * partner, atol=1e-6)
            else:
                assert torch.where(found == before, True, found == partner).all()


def test_dad_as_released_asks_for_both_sides_together_and_eq_9_does_not():
    assert JOINT_NEED in dad_release.Objective().needs()
    assert JOINT_NEED not in dad.Objective().needs()


def test_replay_shows_the_epoch_s_view_with_its_outputs():
    source = replayed()
    for epoch in range(EPOCHS):
        view = epoch % 2
        for batch in source.iterate_batches(epoch, 0, NOBODY):
            assert torch.equal(batch.stored["t_clean"].flatten(), batch.index + view / 2)
            taken = batch.stored["t_adv"].flatten().long()
            for side, index, shown in (
                (source.replay.image_sets[0], batch.index, batch.x),
                (source.replay.image_sets[1], taken, batch.stored["x_adv"]),
            ):
                one_by_one = [
                    source.replay.views.make_view(side, i.view(1), view)[0] for i in index
                ]
                assert torch.equal(shown, scale_to_unit_range(torch.cat(one_by_one)))
            assert torch.equal(batch.y, batch.index)
            assert torch.equal(batch.stored["y_adv"], ACCEPTED[taken])


def test_replayed_mixtures_have_the_labels_of_their_shares():
    source = replayed(augment="none", mixup=1.0)
    side = source.replay.image_sets[0]
    for batch in source.iterate_batches(0, 0, NOBODY):
        _, partners, shares = source.replay.views.make_view(side, batch.index, 0)
        first_shard = batch.index < STARTS[1]
        assert torch.equal(first_shard, partners < STARTS[1])
        expected = torch.zeros(SIZE, ROWS)
        for i, (row, partner, share) in enumerate(zip(batch.index, partners, shares, strict=True)):
            expected[i, row] += share
            expected[i, partner] += 1 - share
            mixture = share * scale_to_unit_range(side.images[row]) + (
                1 - share
            ) * scale_to_unit_range(side.images[partner])
            assert (batch.x[i] - mixture).abs().max() <= 0.5001 / 255
        assert torch.allclose(batch.y, expected)


def test_smoothing_goes_with_replay():
    source = replayed()
    plan = source.dataset_source.schedule
    source.dataset_source.schedule = replace(plan, mixing=MixSettings(smoothing=0.1, classes=ROWS))
    batch = next(iter(source.iterate_batches(0, 0, NOBODY)))
    own = batch.y.gather(1, batch.index.view(-1, 1))
    assert torch.allclose(own, torch.full_like(own, 0.9 + 0.1 / ROWS))
    assert torch.allclose(batch.y.sum(1), torch.ones(SIZE))
