"""The table of a study of objectives: means over seeds, AutoAttack of one, paired comparisons."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import yaml

from benchmarks import study_table
from benchmarks.study_table import Method, format_row, read_method, update_numbers, update_pairs
from pipeline.core.attack_protocol import AttackPoint
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report.outcomes import ModelGroup, Outcome
from pipeline.store.artefact import Artefact, Manifest
from tests.helpers.graph import tiny
from tests.helpers.making import made
from tests.helpers.points import CLEAN, EPS, pgd

AUTOATTACK = AttackPoint("autoattack", EPS)


def first(right: int, n: int) -> Outcome:
    """n images, of which the first are classified correctly."""
    return Outcome(np.arange(n), (np.arange(n) < right).astype(float))


def of_two_seeds(tmp_path: Path) -> ModelGroup:
    """A student with two seeds, both under all three measures, and 3 and 5 CPU seconds."""
    members = []
    for place, seconds in enumerate((3, 5)):
        folder = tmp_path / str(place)
        (folder / "attempts").mkdir(parents=True)
        cost = {"part": "main", "seconds": seconds, "cpu_seconds": seconds, "peak_mb": 1}
        (folder / "attempts" / "timing-main-1.json").write_text(json.dumps(cost))
        members.append(Artefact(folder, Manifest("student", "rslad", "k", {}, {}, {}, {}, {})))
    seeds = (
        {CLEAN: first(4, 10), pgd(20, EPS): first(2, 10), AUTOATTACK: first(1, 5)},
        {CLEAN: first(6, 10), pgd(20, EPS): first(3, 10), AUTOATTACK: first(3, 5)},
    )
    return ModelGroup("rslad", "student", tuple(members), seeds)


def test_a_row_has_means_over_seeds_and_autoattack_of_the_first(tmp_path):
    method = read_method(of_two_seeds(tmp_path))
    # Student's t of 0.4 and 0.6: 12.706 · 0.1; Wilson's interval of 1 of 5: 0.0362 to 0.6245.
    assert format_row(method) == (
        "| rslad | 50.0 ±127.1 | 25.0 ±63.5 | 20.0 [3.6, 62.4] | 40.0 | 4 |"
    )


def test_a_measure_that_one_seed_lacks_is_a_dash(tmp_path):
    group = of_two_seeds(tmp_path)
    seeds = (group.outcomes[0], {CLEAN: first(6, 10)})
    cells = format_row(read_method(replace(group, outcomes=seeds))).split(" | ")
    assert cells[1:5] == ["50.0 ±127.1", "–", "20.0 [3.6, 62.4]", "–"]


def test_files_keep_the_measures_that_are_not_made_anew(tmp_path):
    numbers, pairs = tmp_path / "numbers.json", tmp_path / "pairs.csv"
    before = [
        Method("a", {"clean": [first(2, 4)], "pgd": [first(1, 4)]}, 1.0),
        Method("b", {"clean": [first(4, 4)], "pgd": [first(1, 4)]}, 1.0),
    ]
    for update, path in ((update_numbers, numbers), (update_pairs, pairs)):
        update(path, before, ("clean", "pgd"))
    after = [
        Method("a", {"clean": [first(0, 4)], "pgd": [first(4, 4)]}, 1.0),
        Method("b", {"clean": [first(0, 4)], "pgd": [first(3, 4)]}, 1.0),
    ]
    for update, path in ((update_numbers, numbers), (update_pairs, pairs)):
        update(path, after, ("pgd",))
    found = json.loads(numbers.read_text())
    assert found["a"]["clean"]["value"] == 50 and found["a"]["pgd"]["value"] == 100
    rows = list(csv.DictReader(pairs.read_text().splitlines()))
    assert [(row["measure"], row["difference"]) for row in rows] == [
        ("clean", "-50.0"),
        ("pgd", "25.0"),
    ]
    assert rows[0]["p"] == "0.5"  # McNemar: two images, both for b: 2 · (1/2)^2


def test_a_finished_study_is_read_from_its_store(tmp_path, capsys):
    raw = {key: value for key, value in tiny().items() if key in ("seed", "run", "datasets")}
    student = {
        "dataset": "tiny",
        "model": "resnet8-s2-w8",
        "objective": "natural",
        "recipe": {"batch": 64},
        "epochs": 1,
    }
    raw |= {
        "store": str(tmp_path / "store"),
        "students": {"plain": {**student, "seeds": [0, 1]}, "late": {**student, "epochs": 2}},
        "suites": {"main": {"models": "students", "attacks": ["clean", {"pgd": {"steps": 1}}]}},
    }
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(raw))
    without_late = raw | {"students": {"plain": raw["students"]["plain"]}}
    artefacts = made(make_plan_from_dict(without_late))
    capsys.readouterr()
    study_table.main([str(config), "--out", str(tmp_path)])
    (row,) = capsys.readouterr().out.splitlines()[2:]
    shares = [
        record["accuracy"]
        for seed in (0, 1)
        for record in artefacts[f"evaluation/plain-{seed}.main"].manifest.facts["accuracy"]
        if record["attack"] == "clean"
    ]
    assert row.startswith(f"| plain | {50 * sum(shares):.1f} ±")
    written = json.loads((tmp_path / "objectives.json").read_text())
    assert written.keys() == {"plain"} and written["plain"].keys() == {"clean", "pgd"}
