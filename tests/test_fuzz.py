"""No reader fails in another way than by one line: a short form of `make fuzz`."""

import pytest

from tests.helpers.fuzz import INPUTS, fuzz

CASES = {"configuration": 100}  # a plan costs more than a file


@pytest.mark.parametrize("reader", INPUTS, ids=lambda r: r.__name__)
def test_a_reader_returns_or_says_why_not(reader, tmp_path):
    fuzz(reader, CASES.get(reader.__name__, 300), tmp_path)
