"""What students learn from each bank, beside those of a bank without an attack."""

from pathlib import Path

import numpy as np
import pytest
import yaml

from benchmarks import bank_students
from benchmarks.bank_students import find_bank, find_beside, format_student
from pipeline.report.outcomes import ModelGroup, Outcome, Study
from pipeline.store.artefact import Artefact, Manifest
from tests.helpers.graph import tiny
from tests.helpers.points import CLEAN, EPS, corrupted, pgd


def first(right: int) -> Outcome:
    """Ten images, of which the first are classified correctly."""
    return Outcome(np.arange(10), (np.arange(10) < right).astype(float))


def bank(key: str, discretizer: str | None, attack: dict | None) -> Artefact:
    """A bank that no job made: its manifest alone."""
    inputs = {"teacher": "t"} | ({"discretizer": discretizer} if discretizer else {})
    return Artefact(Path(key), Manifest("bank", key, key, {"attack": attack}, inputs, {}, {}, {}))


def student(
    name: str, bank_key: str | None, *rights: tuple[int, int, int, int], seed: int = 0
) -> ModelGroup:
    """A student whose seeds have so many right: clean, under PGD, in fog and in snow."""
    points = (CLEAN, pgd(20, EPS), corrupted("fog"), corrupted("snow"))
    inputs = {"bank": bank_key} if bank_key else {}
    specs = [{"seed": seed + place} for place in range(len(rights))]
    members = tuple(
        Artefact(Path(name), Manifest("student", name, name, spec, inputs, {}, {}, {}))
        for spec in specs
    )
    outcomes = tuple(dict(zip(points, map(first, right), strict=True)) for right in rights)
    return ModelGroup(name, "student", members, outcomes)


BANKS = [
    bank("plain", "vq", None),
    bank("strong", "vq", {"eps": 1}),
    bank("coarse", "vq-coarse", {"eps": 1}),
    bank("pgd", None, {"eps": 1}),
]
STUDY = Study({f"bank/{b.manifest.key}": b for b in BANKS}, {})
PLAIN = student("plain", "plain", (5, 2, 3, 5), (7, 4, 4, 6))
STRONG = student("strong", "strong", (6, 2, 4, 6), (10, 4, 5, 9))


def test_a_row_has_means_and_differences_paired_by_seed():
    # Student's t quantile of one degree of freedom is 12.706. Clean: 60 and 100 have the standard
    # error 20, their differences from 50 and 70, 10 and 30, have 10. Corruptions: 50 and 70 with
    # 10, differences 10 and 20 with 5.
    assert format_student(STRONG, PLAIN) == (
        "| strong | plain | 80.0 ±254.1 (+20.0 ±127.1) | 30.0 ±127.1 (+0.0 ±0.0) |"
        " 60.0 ±127.1 (+15.0 ±63.5) |"
    )


def test_the_student_that_others_stand_beside_has_no_differences():
    expected = "| plain | – | 60.0 ±127.1 | 30.0 ±127.1 | 45.0 ±63.5 |"
    assert format_student(PLAIN, PLAIN) == format_student(PLAIN, None) == expected


def test_a_measure_that_was_not_taken_is_a_dash():
    bare = ModelGroup("bare", "student", PLAIN.members, tuple({CLEAN: first(5)} for _ in range(2)))
    assert format_student(bare, PLAIN).endswith("| – | – |")
    assert "(" not in format_student(PLAIN, bare).split(" | ")[3]


def test_a_student_stands_beside_that_of_its_discretizers_bank_without_an_attack():
    coarse = student("coarse", "coarse", *[(1, 1, 1, 1)] * 2)
    groups = [STRONG, PLAIN, coarse]
    assert find_beside(STUDY, STRONG, groups) is PLAIN
    assert find_beside(STUDY, coarse, groups) is None


def test_a_student_stands_beside_one_of_the_same_seeds():
    again = student("again", "strong", *[(1, 1, 1, 1)] * 2, seed=2)
    plain_again = student("plain-again", "plain", *[(1, 1, 1, 1)] * 2, seed=2)
    assert find_beside(STUDY, again, [PLAIN, again]) is None
    assert find_beside(STUDY, again, [PLAIN, again, plain_again]) is plain_again
    assert format_student(again, PLAIN).startswith("| again | – | 10.0 ±0.0 |")


def test_students_of_other_banks_and_of_none_are_left_out():
    assert find_bank(STUDY, PLAIN) is BANKS[0]
    assert find_bank(STUDY, student("replay", "pgd", (1, 1, 1, 1))) is None
    assert find_bank(STUDY, student("natural", None, (1, 1, 1, 1))) is None


def test_a_study_without_a_finished_student_has_headings_alone(tmp_path, capsys):
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(tiny() | {"store": str(tmp_path / "store")}))
    bank_students.main([str(config)])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_unknown_student_to_stand_beside_is_named(tmp_path, capsys):
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(tiny() | {"store": str(tmp_path / "store")}))
    with pytest.raises(SystemExit):
        bank_students.main([str(config), "--beside", "plian"])
    assert "--beside plian" in capsys.readouterr().err
