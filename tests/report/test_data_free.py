"""The report on data-free training: grids of samples over time, and DERD's cosines."""

from contextlib import contextmanager

import pytest
from matplotlib.figure import Figure
from PIL import Image

from pipeline.report import figures
from pipeline.report.outcomes import open_study
from pipeline.stages import report
from pipeline.store.artefact import Job
from pipeline.training.loop import write_history
from tests.report.test_page import CLASSES, RECIPE, Store, write_data

COSINES = {"derd-0": [0.5, -0.25], "derd-1": [0.4, 0.1], "kd-0": None}


def write_student(folder, cosines):
    """Write a history, with cosines where there were two gradients."""
    given = [{} for _ in range(2)] if cosines is None else [{"cosine": c} for c in cosines]
    records = [{"epoch": e + 1, "lr": 0.1, "kd": 1.0, **more} for e, more in enumerate(given)]
    write_history(folder / "history.json", records)
    return ["history.json"]


def write_grids(folder):
    """Write two early grids and the last one, each in its own grey."""
    names = ("samples-0001.png", "samples-0012.png", "samples.png")
    for grey, name in enumerate(names):
        Image.new("RGB", (8, 8), (grey, grey, grey)).save(folder / name)
    write_history(folder / "history.json", [{"epoch": 1, "lr": 0.1, "kd": 1.0}])
    return ["history.json", *names]


@pytest.fixture(scope="module")
def job(tmp_path_factory) -> Job:
    made = Store(tmp_path_factory.mktemp("store"))
    counts = {"train": 16, "val": 16, "test": 16}
    made.add("dataset", "tiny", {}, {}, write_data, {"classes": CLASSES, "counts": counts})
    spec = {"model": "r8", "recipe": RECIPE, "device": "cpu", "objective": {"derd": {}}}
    made.add("teacher", "n", spec, {"dataset": "dataset/tiny"}, lambda at: write_student(at, None))
    warm = {"steps_per_epoch": 3}
    made.add("generator", "g", warm, {"teacher": "teacher/n"}, write_grids, {"epochs": 2})
    for name, cosines in COSINES.items():
        inputs = {"generator": "generator/g", "teachers.natural": "teacher/n"}
        made.add("student", name, spec, inputs, lambda at, c=cosines: write_student(at, c))
    return made.job()


def test_grids_stand_in_order_of_training(job):
    report.run(job)
    text = (job.folder / "report.md").read_text()
    assert "![generator](figures/generator-g.png)" in text and "epoch 1, epoch 12, end" in text
    with Image.open(job.folder / "figures/generator-g.png") as picture:
        width, height = picture.size
        middles = [picture.getpixel((round(width * x), height // 2)) for x in (1 / 6, 1 / 2, 5 / 6)]
    assert [colour[:3] for colour in middles] == [(grey,) * 3 for grey in range(3)]
    assert "![cosine](figures/cosine.png)" in text
    assert (job.folder / "figures/cosine.png").stat().st_size > 1000


def test_a_curve_a_derd_student_and_seed(job, monkeypatch, tmp_path):
    drawn = []

    @contextmanager
    def catch(path, width, height):
        drawn.append(Figure())
        yield drawn[-1]

    monkeypatch.setattr(figures, "open_figure", catch)
    study = open_study(job)
    assert [group.name for group in figures.find_groups_with_cosines(study)] == ["derd"]
    figures.draw_cosine_curves(tmp_path / "x.png", study)
    lines = drawn[0].axes[0].get_lines()
    found = [line.get_ydata() for line in lines if line.get_marker() == "o"]
    assert [list(y) for y in found] == [COSINES["derd-0"], COSINES["derd-1"]]
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == ["derd"]
