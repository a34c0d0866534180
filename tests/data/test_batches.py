"""Sources: a resumed run gets the same batches as an uninterrupted one, bit for bit."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.core.batch import Batch, Roles
from pipeline.core.images import scale_to_unit_range
from pipeline.data.batches import BatchSchedule, BatchSource, DatasetSource
from pipeline.errors import RetortError

ROWS, SIZE, EPOCHS = 23, 4, 3
STEPS = ROWS // SIZE
NOBODY = Roles(nn.Identity())


def draw(rows: int, seed: int) -> Tensor:
    """Random uint8 images."""
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, 3, 8, 8), generator=rng, dtype=torch.uint8)


def dataset(augment: str = "crop_flip", seed: int = 5) -> DatasetSource:
    return DatasetSource(
        draw(ROWS, 1), torch.arange(ROWS), BatchSchedule(EPOCHS, SIZE, seed, augment)
    )


def content(batch: Batch) -> dict[str, Tensor]:
    """A batch as tensors, including its generator's state and a draw from it."""
    return {
        "x": batch.x,
        "y": batch.y,
        "index": batch.index,
        "counters": torch.tensor([batch.progress, batch.epoch]),
        "rng": batch.rng.get_state(),
        "next": torch.rand(3, generator=batch.rng),
        **batch.stored,
    }


def assert_equal(one: Batch, two: Batch) -> None:
    first, second = content(one), content(two)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def assert_resumes(make: Callable[[], BatchSource], epoch: int, start: int) -> None:
    """A fresh source gives the same batches from ``start`` on as an uninterrupted one."""
    unbroken = list(make().iterate_batches(epoch, 0, NOBODY))
    fresh = make()
    fresh.load_state_dict(make().state_dict())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(start)
        resumed = list(fresh.iterate_batches(epoch, start, NOBODY))
    assert len(unbroken) == fresh.steps == STEPS
    assert len(resumed) == STEPS - start
    for one, two in zip(unbroken[start:], resumed, strict=True):
        assert_equal(one, two)


@settings(max_examples=12)
@given(epoch=st.integers(0, EPOCHS - 1), start=st.integers(0, STEPS))
def test_a_run_resumes_bit_for_bit_from_anywhere(epoch, start):
    assert_resumes(dataset, epoch, start)


def test_an_epoch_shows_each_row_at_most_once_with_its_label():
    source = dataset("none")
    rows = []
    for batch in source.iterate_batches(0, 0, NOBODY):
        assert torch.equal(batch.y, batch.index)
        assert torch.equal(batch.x, scale_to_unit_range(source.images[batch.index]))
        rows += batch.index.tolist()
    assert len(rows) == len(set(rows)) == STEPS * SIZE


def test_epochs_seeds_and_steps_differ():
    orders = [
        torch.cat([b.index for b in dataset(seed=seed).iterate_batches(epoch, 0, NOBODY)]).tolist()
        for seed, epoch in ((5, 0), (5, 1), (6, 0))
    ]
    assert len({tuple(order) for order in orders}) == 3
    states = [tuple(b.rng.get_state().tolist()) for b in dataset().iterate_batches(0, 0, NOBODY)]
    assert len(set(states)) == STEPS


def test_progress_rises_from_zero_by_equal_steps():
    source = dataset()
    seen = [b.progress for epoch in range(EPOCHS) for b in source.iterate_batches(epoch, 0, NOBODY)]
    expected = [i / (EPOCHS * STEPS) for i in range(EPOCHS * STEPS)]
    assert seen == pytest.approx(expected)


def test_too_few_images_for_one_batch():
    with pytest.raises(RetortError, match="recipe.batch: 32 is more than the 23"):
        DatasetSource(draw(ROWS, 1), torch.arange(ROWS), BatchSchedule(1, 32, 0))


def test_pixels_are_exact():
    assert torch.equal(
        scale_to_unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8)).mul(255).round(),
        torch.tensor([0.0, 51.0, 255.0]),
    )
    assert scale_to_unit_range(torch.tensor([255], dtype=torch.uint8)).item() == 1.0
