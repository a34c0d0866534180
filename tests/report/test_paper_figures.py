"""The papers' figures: what is computed for each by hand, and all of them from a tiny store."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.banks.shards import shard_name, write_shard
from pipeline.config.paper_tables import PaperFigure
from pipeline.config.suites import ReportSpec
from pipeline.core.attack_protocol import AttackPoint
from pipeline.errors import RetortError
from pipeline.models.classifier import get_epoch_file_name, initialise_classifier, save_classifier
from pipeline.planning import graph
from pipeline.planning.graph import make_plan_from_dict
from pipeline.report.distance_study import DistanceStudy, measure_distances
from pipeline.report.outcomes import ModelGroup, Outcome, Study, open_study
from pipeline.report.paper_figures import (
    bank_rows,
    canvas,
    cosine,
    landscape,
    radius,
    training_radius,
)
from pipeline.report.paper_figures.canvas import Canvas
from pipeline.report.paper_figures.section import PAPER_FIGURES, add_figures
from pipeline.stages import report
from pipeline.store.artefact import Artefact, Manifest
from pipeline.training.loop import write_history
from tests.helpers.graph import tiny
from tests.helpers.points import CLEAN, EPS, corrupted, pgd
from tests.helpers.specs import completed
from tests.report.test_page import (
    BANK_FACTS,
    CLASSES,
    RECIPE,
    Store,
    write_bank,
    write_data,
    write_outcomes,
)

# webdataset leaves the closing of a shard's file to the garbage collector
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

MODEL = "resnet8-s2-w4"
NAMES = PaperFigure.__args__
WANTED = ReportSpec(
    names=(), samples=2, figures=NAMES, figure_images=8,
    wasserstein={"network": "robust", "images": 8},
)  # fmt: skip


def autoattack(eps: float) -> AttackPoint:
    return AttackPoint("autoattack", round(eps, 9))


def write_model(folder, seed=0, epochs=(), **last):
    """Write a small network's weights and its history."""
    model = initialise_classifier(MODEL, 4, [0.5] * 3, [0.2] * 3, seed)
    names = ["model.safetensors", *map(get_epoch_file_name, epochs)]
    for name in names:
        save_classifier(model, folder / name, MODEL, CLASSES)
    records = [{"epoch": e, "lr": 0.1, "ce": 1.0, **last} for e in (1, 2)]
    write_history(folder / "history.json", records)
    return ["history.json", *names]


def write_other_bank(folder):
    """Write a bank of white samples of rows 0 to 7."""
    rows = np.arange(16)
    block = {
        "row": rows,
        "label": (rows % 4).astype(np.int16),
        "accepted": rows < 8,
        "t_clean": np.zeros((16, 4), np.float16),
        "x_adv": np.full((8, 3, 32, 32), 255, np.uint8),
        "t_adv": np.zeros((8, 4), np.float16),
        "flips": np.zeros(8, np.float16),
    }
    write_shard(folder / shard_name(0), iter([(0, block, {"rows": 16})]))
    return [shard_name(0)]


def figure_store(folder) -> Store:
    """Students of two radii, one of DERD, two banks, and a test set from elsewhere."""
    store = Store(folder)
    counts = {"train": 16, "val": 16, "test": 16}
    facts = {"classes": CLASSES, "mean": [0.5] * 3, "std": [0.2] * 3, "shape": [3, 32, 32]}
    facts |= {"counts": counts}
    store.add("dataset", "tiny", {}, {}, write_data, facts)
    store.add("dataset", "sketch", {}, {}, write_data, facts)
    data, robust = {"dataset": "dataset/tiny"}, {"model": MODEL, "objective": {"pgd_at": {}}}
    store.add("teacher", "robust", {**robust, "recipe": RECIPE}, data, write_model, {"epochs": 2})
    taught = {**data, "teachers.teacher": "teacher/robust"}
    for name, write in (("first", write_bank), ("second", write_other_bank)):
        store.add("bank", name, {}, {**data, "teacher": "teacher/robust"}, write, BANK_FACTS)
    for name, objective, more in (
        ("near-0", {"adaad": {"eps": 8 / 255, "step": 2 / 255}}, {"epochs": (1,)}),
        ("far-0", {"adaad": {"eps": 16 / 255, "step": 4 / 255}}, {}),
        ("derd-0", {"derd": {}}, {"cosine": -0.25}),
        ("derd-1", {"derd": {}}, {"cosine": 0.75}),
    ):
        spec = {"model": MODEL, "recipe": RECIPE, "objective": objective}
        write = lambda at, more=more, name=name: write_model(at, len(name), **more)  # noqa: E731
        store.add("student", name, spec, taught, write)
        linf = {CLEAN: (12, 16), pgd(20, EPS): (6, 16)}
        linf |= {corrupted("fog", variant="cifar"): (5, 16)}
        linf |= {autoattack(4 / 255): (4, 8), autoattack(8 / 255): (2, 8)}
        on = {**data, "model": f"student/{name}"}
        store.add("evaluation", f"{name}.main", {}, on, lambda at, a=linf: write_outcomes(at, a))
        on = {"dataset": "dataset/sketch", "model": f"student/{name}"}
        store.add(
            "evaluation", f"{name}.sketch", {"shifted": True}, on,
            lambda at: write_outcomes(at, {CLEAN: (4, 16)}),
        )  # fmt: skip
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return figure_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def study(store) -> Study:
    return open_study(store.job())


@pytest.fixture
def few_steps(monkeypatch):
    """A landscape of two directions and three points, attacked once."""
    for name, value in (("DIRECTION_COUNT", 2), ("SCALES", (-0.5, 0.0, 0.5)), ("STEPS", 1)):
        monkeypatch.setattr(landscape, name, value)


def test_every_name_of_the_configuration_has_a_figure():
    assert set(PAPER_FIGURES) == set(NAMES)


def test_every_figure_is_drawn(study, tmp_path, few_steps):
    spots = measure_distances(study, WANTED.wasserstein)
    parts, files = add_figures(tmp_path, study, WANTED, spots)
    assert set(files) == {f"figures/{name}.{end}" for name in NAMES for end in ("png", "svg")}
    for file in files:
        begin = (tmp_path / file).read_bytes()[:100]
        assert begin.startswith(b"\x89PNG" if file.endswith("png") else b"<?xml"), file
    text = "\n".join(parts)
    assert "Not drawn" not in text
    captions = dict(zip(NAMES, (part for part in parts if part.startswith("*")), strict=True))
    for name, caption in captions.items():
        assert "n = " in caption and "seed" in caption, name
    assert "Accuracy on n = 16 test images" in captions["dad.2"]
    assert "mean over an epoch's n = 2 steps" in captions["derd.5"]
    before = {file: (tmp_path / file).read_bytes() for file in files if "derd.5" in file}
    add_figures(tmp_path, study, WANTED.model_copy(update={"figures": ("derd.5",)}))
    assert before == {file: (tmp_path / file).read_bytes() for file in before}


def test_a_figure_without_data_says_what_it_needs(tmp_path):
    empty = Study({}, {})
    parts, files = add_figures(tmp_path, empty, WANTED)
    assert not files and sum(part.startswith("Not drawn: it needs") for part in parts) == len(NAMES)
    assert add_figures(tmp_path, empty, WANTED.model_copy(update={"figures": ()})) == ([], [])


def test_the_report_shows_the_figures(tmp_path):
    job = figure_store(tmp_path).job(figures=["derd.5"], figure_images=8)
    manifest = report.run(job)
    assert {"figures/derd.5.png", "figures/derd.5.svg"} <= set(manifest.files)
    assert "Figures of the papers" in (job.folder / "report.html").read_text()


def test_series_of_radii_differ_in_the_radius_alone(study):
    (series,) = training_radius.collect_series(study)
    assert series.label == "adaad (robust)"
    assert [(round(255 * eps), g.name) for eps, g in series.groups.items()] == [
        (8, "near"),
        (16, "far"),
    ]
    attack = training_radius.find_strongest_attack(list(series.groups.values()))
    assert attack == autoattack(8 / 255)
    values = training_radius.estimate_series(series, attack)
    assert [e.value for e in values.values()] == [0.25, 0.25]


def test_a_student_that_carries_another_term_is_of_another_series():
    def key(**more):
        spec = {"objective": {"adaad": {"eps": 0.1}}, "model": MODEL, "recipe": RECIPE, **more}
        manifest = Manifest("student", "s-0", "k", completed("student", spec), {}, {}, {}, {})
        group = ModelGroup("s", "student", (Artefact(Path("s"), manifest),), ({},))
        return training_radius.make_series_key(group)

    assert key() == key(seed=1) == key(objective={"adaad": {"eps": 0.2, "step": 0.05}})
    assert key() != key(objective={"adaad": {"eps": 0.2, "kd_scale": 0.1}})
    assert key() == key(recipe=RECIPE | {"keep_epochs": [1]})
    assert key() != key(recipe=RECIPE | {"epochs": 9})
    assert key() != key(igdm={"alpha": 20.0}) and key() != key(objective={"adaad": {"steps": 2}})


def test_a_radius_curve_begins_on_the_same_images():
    """Clean: 0 to 5 of eight are right, all four of the attacked ones: 1, not 6/8."""

    def outcome(right: int, n: int) -> Outcome:
        return Outcome(np.arange(n), (np.arange(n) < right).astype(float))

    points = {CLEAN: outcome(6, 8), autoattack(EPS): outcome(1, 4), autoattack(0.1): outcome(0, 4)}
    curve = radius.make_radius_curve(
        ModelGroup("a", "student", (), (points,)), autoattack(0), [EPS, 0.1]
    )
    assert {eps: e.value for eps, e in curve.estimates.items()} == {0.0: 1, EPS: 0.25, 0.1: 0}
    assert curve.image_count == 4
    assert radius.make_radius_curve(ModelGroup("a", "student", (), ({},)), CLEAN, [EPS]) is None


def test_cosines_by_seed(study):
    ((group, (epochs, values)),) = cosine.collect_cosines(study)
    assert group.name == "derd" and epochs == [1, 2]
    np.testing.assert_array_equal(values, [[-0.25, -0.25], [0.75, 0.75]])


def test_kept_epochs_stand_before_the_exported_weights(study):
    model = study.get_artefacts("student")["near-0"]
    assert landscape.list_weight_files(model) == {
        "epoch 1": "epoch-1.safetensors",
        "exported": "model.safetensors",
    }


def test_rows_that_all_banks_have(study):
    banks = study.get_artefacts("bank")
    samples = {name: bank_rows.read_samples_by_row(bank) for name, bank in banks.items()}
    assert list(samples["first"]) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert list(samples["second"]) == list(range(8)) and samples["second"][3].min() == 1
    assert bank_rows.choose_common_rows(samples, 3) == [0, 2, 4]
    same = {1: np.zeros(2), 2: np.zeros(2)}
    assert bank_rows.choose_common_rows({"a": same, "b": {1: np.zeros(2), 2: np.ones(2)}}, 1) == [2]


def test_a_white_sample_has_a_frame_and_a_bank_left_out_a_word(study, tmp_path, monkeypatch):
    shown, show, read = [], bank_rows.show_image, bank_rows.read_samples_by_row
    monkeypatch.setattr(bank_rows, "show_image", lambda *a: shown.append(a[0]) or show(*a))
    (tmp_path / "figures").mkdir()
    one = Canvas(tmp_path, "dad.3", study, WANTED)
    assert bank_rows.draw_bank_rows(one).endswith("in which they differ; one seed.")
    assert len(shown) == 6  # clean, first and second, of two images
    spines = [spine for axes in shown for spine in axes.spines.values()]
    assert all(s.get_visible() and s.get_edgecolor() == (0.7, 0.7, 0.7, 1) for s in spines)
    first = study.get_artefacts("bank")["first"]
    monkeypatch.setattr(
        bank_rows, "read_samples_by_row", lambda bank: read(bank) if bank is first else {}
    )
    told = bank_rows.draw_bank_rows(one)
    assert told.endswith("Left out, of other images or without pixels: second.")


def test_distances_to_other_test_sets(study):
    spots = measure_distances(study, WANTED.wasserstein)
    found = {(s.group.name, s.shift.corruption or s.shift.part): s for s in spots}
    assert set(found) == {(n, s) for n in ("near", "far", "derd") for s in ("fog", "sketch")}
    assert found["near", "sketch"].accuracy == 0.25
    assert found["near", "sketch"].relative_distance == pytest.approx(1)  # no bank is read
    network = canvas.load_network(study.get_artefacts("teacher")["robust"])
    other = DistanceStudy(study, network, 8)
    key = study.get_artefacts("dataset")["sketch"].manifest.key
    images = other.get_dataset(key).read_split("test").images[:8]
    by_hand = other.get_statistics(("by hand",), [images])
    for one, two in zip(by_hand.layers, other.measure_other_images(key, "").layers, strict=True):
        torch.testing.assert_close(one, two)


def test_counts_and_seeds_in_words(study):
    assert canvas.describe_counts([200, 1000]) == "n = 200 to 1,000"
    assert canvas.describe_counts([5]) == "n = 5"
    assert canvas.describe_seeds(study.groups) == "1 or 2 seeds"


def test_the_plan_checks_the_figures(monkeypatch):
    raw = tiny()
    raw["report"]["figures"] = ["dad.2"]
    with pytest.raises(RetortError, match="dad.2 needs 'wasserstein'"):
        make_plan_from_dict(raw)
    raw["report"]["figures"] = ["darwin.4"]
    plan = make_plan_from_dict(raw)
    code = plan.artefacts[plan.refs_by_name["report", "report"]].code
    assert "pipeline.report.paper_figures.grad_cam" in code
    monkeypatch.setattr(graph, "is_installed", lambda package: package != "pytorch_grad_cam")
    with pytest.raises(RetortError, match="report.figures: darwin.4 .* pip install"):
        graph.check_packages(plan)


def test_a_canvas_names_its_files(study, tmp_path):
    one = Canvas(tmp_path, "dad.3", study, WANTED)
    assert one.files == ["figures/dad.3.png", "figures/dad.3.svg"]
