"""A second data set in every batch: its share, its order, and resumed runs."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.core.batch import Roles
from pipeline.core.images import scale_to_unit_range
from pipeline.core.mixup import MixSettings
from pipeline.data.batches import BatchSchedule, DatasetSource
from pipeline.data.mixture import (
    MixedSource,
    UnlabelledSource,
    count_added_images,
    draw_streamed_rows,
)
from tests.data.test_batches import assert_equal

ROWS, MORE, SIZE, EPOCHS = 23, 9, 10, 3
STEPS = ROWS // SIZE
NOBODY = Roles(nn.Identity())


def images(rows: int, seed: int) -> Tensor:
    """Random uint8 images."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, 3, 8, 8), generator=rng, dtype=torch.uint8)


def mixed(share: float = 0.7, augment: str = "crop_flip", mixing: MixSettings | None = None):
    """A source whose labels are rows; those of the second set start at 100."""
    plan = BatchSchedule(EPOCHS, SIZE, 5, augment, mixing=mixing or MixSettings())
    base = DatasetSource(images(ROWS, 1), torch.arange(ROWS), plan)
    return MixedSource(base, images(MORE, 2), torch.arange(MORE) + 100, share)


@settings(max_examples=12)
@given(epoch=st.integers(0, EPOCHS - 1), start=st.integers(0, STEPS), hidden=st.booleans())
def test_a_run_resumes_bit_for_bit_from_anywhere(epoch, start, hidden):
    def make():
        return UnlabelledSource(mixed()) if hidden else mixed()

    unbroken, fresh = list(make().iterate_batches(epoch, 0, NOBODY)), make()
    fresh.load_state_dict(make().state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(start)
        resumed = list(fresh.iterate_batches(epoch, start, NOBODY))
    assert len(unbroken) == fresh.steps == STEPS
    assert len(resumed) == STEPS - start
    for one, two in zip(unbroken[start:], resumed, strict=True):
        if hidden:
            assert one.y is two.y is None
            assert torch.equal(one.x, two.x)
        else:
            assert_equal(one, two)


def test_every_batch_has_the_share_with_its_own_labels_at_random_places():
    source, places = mixed(augment="none"), []
    everything = torch.cat([source.base.images, source.images])
    for batch in source.iterate_batches(0, 0, NOBODY):
        added = batch.y >= 100
        assert int(added.sum()) == count_added_images(0.7, SIZE) == 7
        rows = torch.where(added, batch.y - 100 + ROWS, batch.y)
        assert torch.equal(batch.index, rows)
        assert torch.equal(batch.x, scale_to_unit_range(everything[rows]))
        places.append(added.tolist())
    assert len({tuple(place) for place in places}) == STEPS


def test_both_sets_are_gone_through_evenly_across_epochs():
    own, more = [], []
    for epoch in range(EPOCHS):
        for batch in mixed(augment="none").iterate_batches(epoch, 0, NOBODY):
            added = batch.y >= 100
            own.append(sorted(batch.y[~added].tolist()))
            more += sorted((batch.y[added] - 100).tolist())
    seen = [row for rows in own for row in rows]
    assert len(seen) == len(set(seen)) == EPOCHS * STEPS * 3  # 18 of 23 rows, none twice
    counts = torch.bincount(torch.tensor(more), minlength=MORE)
    assert int(counts.sum()) == EPOCHS * STEPS * 7
    assert int(counts.max() - counts.min()) <= 1


@given(st.integers(1, 7), st.integers(0, 40), st.integers(1, 20))
def test_a_stream_is_permutations_one_after_the_other(rows, start, count):
    plan = BatchSchedule(1, 4, 3)
    whole = torch.cat(
        [plan.draw_permutation(rows, turn, "extra") for turn in range(61 // rows + 1)]
    )
    assert torch.equal(
        draw_streamed_rows(plan, "extra", rows, start, count), whole[start : start + count]
    )


def test_both_sets_are_augmented():
    plain, moved = (list(mixed(augment=a).iterate_batches(0, 0, NOBODY)) for a in ("none", "flip"))
    for one, two in zip(plain, moved, strict=True):
        assert torch.equal(one.index, two.index)
        changed = (one.x != two.x).flatten(1).any(1)
        assert changed[one.y < 100].any()
        assert changed[one.y >= 100].any()


@pytest.mark.parametrize(
    "how", [MixSettings(mixup=0.8, classes=200), MixSettings(smoothing=0.1, classes=200)]
)
def test_both_sets_are_mixed_and_smoothed(how):
    for batch in mixed(mixing=how).iterate_batches(0, 0, NOBODY):
        assert batch.y.shape == (SIZE, 200)
        torch.testing.assert_close(batch.y.sum(1), torch.ones(SIZE).to(batch.y))
