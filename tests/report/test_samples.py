"""Samples of a bank for the report's figure, with and without a discretizer."""

import numpy as np
import torch
from matplotlib.figure import Figure

from pipeline.report import figures
from pipeline.report.bank_samples import BankSample, find_moved_samples
from pipeline.report.figures import draw_bank_samples


def block():
    """Three samples: one that the attack moved, one that it did not, one the teacher doubts."""
    logits = np.array([[3, 0], [3, 0], [0, 3]], np.float16)
    moved = np.zeros((3, 3, 8, 8), np.uint8)
    moved[0] += 8
    moved[2] += 8
    return {
        "row": np.array([4, 5, 6]), "label": np.zeros(3, np.int16), "accepted": np.ones(3, bool),
        "x_adv": moved, "t_adv": logits,
    }  # fmt: skip


def test_a_bank_without_a_discretizer_shows_its_moved_samples(tmp_path):
    images = torch.zeros(8, 3, 8, 8, dtype=torch.uint8)
    (found,) = find_moved_samples("pixels", block(), images, None, ["cat", "dog"])
    assert found.reconstruction is None and found.bank == "pixels"
    assert found.caption == "label: cat\nteacher: cat 95 %"
    assert abs(found.stored - found.clean).max() == np.float32(8 / 255)
    draw_bank_samples(tmp_path / "samples.png", [found])
    assert (tmp_path / "samples.png").stat().st_size > 1000


def test_outputs_on_views_are_averaged():
    """Two views of 0.953 and 0.5: 73 % for the cat. The sample's own class decides, not theirs."""
    images = torch.zeros(8, 3, 8, 8, dtype=torch.uint8)
    plain = block()["t_adv"]
    with_views = block() | {"t_adv": np.stack([plain, np.zeros_like(plain)], 1)}
    with_views["predicted"] = np.array([0, 0, 1], np.int16)
    (found,) = find_moved_samples("views", with_views, images, None, ["cat", "dog"])
    assert found.caption == "label: cat\nteacher: cat 73 %, mean over views"
    with_views["predicted"] = np.array([1, 0, 0], np.int16)
    (found,) = find_moved_samples("views", with_views, images, None, ["cat", "dog"])
    assert found.caption == "label: cat\nteacher: cat 27 %, mean over views"


def test_rows_of_two_banks_name_them_and_show_q_of_x_only_where_it_is(tmp_path, monkeypatch):
    """The second row has no Q(x); its difference is from the clean image, 10 x 0.02."""
    shown = []
    monkeypatch.setattr(
        figures, "show_image", lambda axes, image: shown.append((axes.get_subplotspec(), image))
    )
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, *_, **__: drawn.append(figure))
    clean, quantised, stored = (np.full((3, 4, 4), v) for v in (0.5, 0.4, 0.52))
    monkeypatch.setattr(figures, "CHANGE_GAIN", 10)
    samples = [
        BankSample("codes", clean, quantised, stored, "label: cat"),
        BankSample("pixels", clean, None, stored, "label: dog"),
    ]
    draw_bank_samples(tmp_path / "samples.png", samples)
    (figure,) = drawn
    labels = [axes.get_ylabel() for axes in figure.axes if axes.get_ylabel()]
    assert labels == ["bank: codes\nlabel: cat", "bank: pixels\nlabel: dog"]
    values = {
        (place.rowspan[0], place.colspan[0]): round(image[0, 0, 0], 6) for place, image in shown
    }
    assert values == {
        (0, 0): 0.5, (0, 1): 0.4, (0, 2): 0.52, (0, 3): 1.0,
        (1, 0): 0.5, (1, 2): 0.52, (1, 3): 0.2,
    }  # fmt: skip
