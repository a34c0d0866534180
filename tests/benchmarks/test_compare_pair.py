"""Two students under each attack, over all their seeds."""

import numpy as np
import pytest
import yaml

from benchmarks import compare_pair
from benchmarks.compare_pair import format_row
from pipeline.report.outcomes import ModelGroup, Outcome
from tests.helpers.graph import tiny
from tests.helpers.points import CLEAN


def students(name: str, *rights: int) -> ModelGroup:
    """A student whose seeds have the first of eight images right, so many each."""
    outcomes = [
        {CLEAN: Outcome(np.arange(8), (np.arange(8) < right).astype(float))} for right in rights
    ]
    return ModelGroup(name, "student", (), tuple(outcomes))


def test_a_row_has_all_seeds_and_each_seed_by_itself():
    row = format_row(CLEAN, students("a", 8, 8), students("b", 3, 8))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:4] == ["clean", "8", "100.0", "68.8"]
    assert cells[4].startswith("+31.2 [")
    one, two = cells[5].split("; ")
    assert one.startswith("+62.5 [") and one.endswith("p = 0.062")  # McNemar: 2 / 2^5
    assert two == "+0.0 [+0.0, +0.0], p = 1"


def test_a_student_that_is_not_finished_is_named(tmp_path, capsys):
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(tiny() | {"store": str(tmp_path / "store")}))
    with pytest.raises(SystemExit):
        compare_pair.main(["a", "b", str(config)])
    assert "a is no finished student" in capsys.readouterr().err
