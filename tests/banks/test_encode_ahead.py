"""Blocks are encoded beside the computation of the next: in order, few at once, faults told."""

import numpy as np
import pytest

from pipeline.banks.builder import convert_to_stored_form
from pipeline.banks.launched import LaunchedBlock
from pipeline.banks.shards import DEFAULT_SPEC
from pipeline.stages.build_bank import ENCODED_AHEAD, encode_ahead

BLOCKS = 9
PNG = DEFAULT_SPEC.model_copy(update={"encoding": "png"})


def blocks(made: list[int], faulty: int | None = None):
    """Blocks of random images, of which the numbers of those that were asked for are kept."""
    rng = np.random.default_rng(0)
    for number in range(BLOCKS):
        made.append(number)
        images = rng.integers(0, 256, (5, 3, 8, 8), np.uint8)
        images = images[:, 0, 0] if number == faulty else images
        yield number, LaunchedBlock({"row": np.arange(5), "x_adv": images}, {}, {"rows": 5})


def test_blocks_come_in_order_with_the_bytes_of_one_after_the_other():
    plain = [(number, *launched.fetch()) for number, launched in blocks([])]
    expected = [(n, convert_to_stored_form(b, PNG), c) for n, b, c in plain]
    found = list(encode_ahead(blocks([]), PNG))
    assert [(n, b["x_adv"], c) for n, b, c in found] == [(n, b["x_adv"], c) for n, b, c in expected]
    assert found[0][1]["x_adv"][0].startswith(b"\x89PNG")


def test_few_blocks_wait_at_once():
    made: list[int] = []
    for taken, (number, _, _) in enumerate(encode_ahead(blocks(made), PNG)):
        assert number == taken
        assert len(made) <= taken + ENCODED_AHEAD + 1


def test_a_fault_of_a_thread_ends_the_build():
    taken: list[int] = []
    with pytest.raises(RuntimeError, match="permute"):
        taken.extend(number for number, _, _ in encode_ahead(blocks([], faulty=4), PNG))
    assert taken == [0, 1, 2, 3]
