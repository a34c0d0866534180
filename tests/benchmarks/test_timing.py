"""The benchmarks' common helper: turns, ratios within a round, and what is written."""

import json
import re
from itertools import count

import pytest
import torch

from benchmarks.timing import (
    RESULTS,
    Settings,
    divide,
    format_profile,
    format_table,
    show,
    take_turns,
    write_result,
)


def test_works_take_turns_and_warm_rounds_do_not_count():
    turns: list[str] = []
    works = {name: lambda name=name: turns.append(name) for name in ("a", "b")}
    ticks = count()
    seconds = take_turns(works, 2, warm=1, clock=lambda: float(next(ticks)))
    assert turns == ["a", "b"] * 3
    assert seconds == {"a": [1.0, 1.0], "b": [1.0, 1.0]}


def test_ratios_are_formed_within_a_round():
    assert divide([2.0, 30.0], [1.0, 10.0]) == [2.0, 3.0]
    with pytest.raises(ValueError, match="zip"):
        divide([1.0], [1.0, 2.0])


def test_a_row_shows_median_least_and_greatest():
    assert show([3.0, 1.0, 2.0], 1, " ms") == "2.0 ms [1.0, 3.0]"
    assert format_table(["a", "b"], [["x", 1]]) == "| a | b |\n| --- | --: |\n| x | 1 |"


def test_a_profile_names_what_takes_longest_and_how_often_it_ran():
    x = torch.rand(256, 256)
    lines = format_profile(lambda: [x @ x for _ in range(3)], operations=1).splitlines()
    name, time, calls = lines[2].strip("| ").split(" | ")
    assert (name, calls) == ("`aten::mm`", "3")
    others = lines[3].strip("| ").split(" | ")[1]
    assert sum(float(text.removesuffix(" %")) for text in (time, others)) == pytest.approx(
        100, 0.002
    )


def test_a_quick_run_has_a_tenth(tmp_path):
    settings = Settings(True, 1, tmp_path)
    assert (settings.scale(320), settings.scale(5), settings.scale(9, least=4)) == (32, 1, 4)
    write_result(settings, "x", "# X\n\n", {"a": 1.0})
    assert (tmp_path / "x.md").read_text() == "# X\n"
    assert json.loads((tmp_path / "data" / "x.json").read_text()) == {"a": 1.0}


@pytest.mark.parametrize("page", sorted(RESULTS.rglob("*.*")), ids=lambda page: page.name)
def test_a_result_names_no_folder_of_a_machine(page):
    assert not re.search(r"(?<![\w.])/(?:home|root|tmp|work)/", page.read_text())
