"""What reads the results of a study: the best point of a sweep, and how banks respond."""

import json

import pytest
import yaml

from benchmarks import choose_tuned
from benchmarks.bank_response import format_bank
from benchmarks.choose_tuned import Point, rank_points
from pipeline.banks.reader import read_bank
from pipeline.planning.graph import make_plan_from_dict
from pipeline.store.artefact import open_artefact
from tests.helpers.bank_store import SAMPLES, store_in
from tests.helpers.graph import tiny
from tests.helpers.making import made


def test_each_sweeps_best_point_is_first_and_sweeps_keep_their_order():
    points = [
        Point("rslad", "lr=0.1", 0.20, 0.5, 100),
        Point("rslad", "lr=0.3", 0.30, 0.4, 100),
        Point("adaad", "lr=0.1", 0.25, 0.4, 100),
        Point("adaad", "lr=0.3", 0.25, 0.6, 100),
    ]
    ranked = [(p.sweep, p.values) for p in rank_points(points)]
    assert ranked == [
        ("rslad", "lr=0.3"),
        ("rslad", "lr=0.1"),
        ("adaad", "lr=0.3"),
        ("adaad", "lr=0.1"),
    ]


def test_the_half_width_is_that_of_a_share_of_so_many_images():
    assert Point("a", "", 0.5, 0.5, 100).half_width == pytest.approx(1.96 * 0.05)


def test_the_table_has_the_best_epoch_of_each_finished_point(tmp_path, capsys):
    raw = {key: value for key, value in tiny().items() if key in ("seed", "run", "datasets")}
    recipe = {"epochs": 1, "batch": 64, "lr": {"grid": [0.1, 0.2]}, "select_on": "val"}
    student = {"dataset": "tiny", "model": "resnet8-s2-w8", "objective": "natural"}
    raw |= {"store": str(tmp_path / "store"), "students": {"plain": {**student, "recipe": recipe}}}
    config = tmp_path / "experiment.yaml"
    config.write_text(yaml.safe_dump(raw))
    choose_tuned.main(str(config))
    assert len(capsys.readouterr().out.splitlines()) == 2
    expected = []
    for name, artefact in made(make_plan_from_dict(raw)).items():
        if name.startswith("student/"):
            (epoch,) = json.loads((artefact.folder / "history.json").read_text())["epochs"]
            robust, clean = 100 * epoch["val_robust"], 100 * epoch["val_clean"]
            expected.append((name.partition(".")[2], f"{robust:.1f}", f"{clean:.1f}"))
    choose_tuned.main(str(config))
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[0] for row in rows] == ["plain", "plain"]
    assert sorted((row[1], row[2].split()[0], row[3]) for row in rows) == sorted(expected)


def test_a_banks_row_has_its_rates_and_how_far_confidence_falls(tmp_path):
    bank = store_in(tmp_path).made("gain", **SAMPLES)
    facts, fields = open_artefact(bank.folder).manifest.facts, read_bank(bank.folder).fields
    cells = [cell.strip() for cell in format_bank("gain", open_artefact(bank.folder)).split("|")]
    assert cells[1] == "gain"
    assert cells[2] == f"{100 * facts['token_flips']:.1f}"
    assert cells[5] == f"{100 * facts['acceptance']:.1f}"
    falls = []
    for place, row in enumerate(fields["row"].tolist()):
        before = fields["t_clean"][row].double().softmax(0)
        after = fields["t_adv"][place].double().softmax(0)
        label = int(fields["label"][row])
        falls.append(100 * float(before[label] - after[label]))
    assert float(cells[7]) == pytest.approx(sum(falls) / len(falls), abs=0.06)
