"""What reads the results of a study: the best point of a sweep, and how banks respond."""

import pytest

from benchmarks.bank_response import format_bank
from benchmarks.choose_tuned import Point, rank_points
from pipeline.banks.reader import read_bank
from pipeline.store.artefact import open_artefact
from tests.helpers.bank_store import SAMPLES, store_in


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
