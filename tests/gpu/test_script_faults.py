"""What the script for the card does where a test fails, a work raises or the time is over."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch

from benchmarks.gpu import card, figures, run, study
from benchmarks.gpu.record import STUDY, Report
from pipeline.errors import RetortError
from tests.helpers.graph import ROOT

TESTS = """
import time
import pytest

pytestmark = pytest.mark.gpu

@pytest.mark.parametrize("number", range(2))
def test_that_fails(number):
    assert number == 3

def test_that_lasts():
    time.sleep(60)
"""


@pytest.fixture
def report(tmp_path) -> Report:
    """An empty report."""
    return Report(tmp_path / "out", "Some Card", 1.0)


def fail(*arguments):
    """Stands for what runs out of memory."""
    raise torch.OutOfMemoryError("no memory")


def test_all_files_with_the_marker_are_run():
    found = run.list_test_files()
    assert {"tests/core/test_pass_graph.py", "tests/gpu/test_resume.py"} <= set(found)
    assert "tests/gpu/test_script.py" not in found
    assert all((ROOT / file).is_file() for file in found)


def test_every_failure_is_named_even_if_the_time_is_over(tmp_path, monkeypatch):
    (tmp_path / "test_some.py").write_text(TESTS)
    monkeypatch.setattr(run, "list_test_files", lambda: [str(tmp_path / "test_some.py")])
    text, is_good = run.run_tests("cpu", run.SUMMARY_SECONDS + 6)
    assert text.startswith("not finished after 16 s")
    failed = [line for line in text.splitlines() if line.startswith("FAILED ")]
    assert len(failed) == 2
    for number, line in enumerate(failed):
        assert f"test_some.py::test_that_fails[{number}]" in line
    assert not is_good


def test_the_folder_of_wheels_is_dropped_in_any_form():
    for form in (["--wheels", "some"], ["--wheels=some"], ["--whee", "some"]):
        assert run.drop_wheels(["run.py", *form, "--scale", "1"]) == ["run.py", "--scale", "1"]


def test_a_figure_that_raises_loses_no_other(report, monkeypatch):
    def measure_step(measure, method, batch, aims):
        if (method, batch) == ("adaad", 512):
            fail()
        return {"images/s": {"median": measured.append((method, batch)) or 1.0}}

    measured = []
    monkeypatch.setattr(figures, "measure_step", measure_step)
    monkeypatch.setattr(figures, "list_bank_works", lambda measure: {"bank": fail})
    monkeypatch.setattr(card, "measure_card", lambda *arguments: 1e12)
    figures.measure_all(report, "cpu", 1.0, float("inf"), 1)
    assert measured == [("adaad", 128), ("pgd_at", 512), ("rslad", 512), ("darwin", 512)]
    assert report.failures == ["adaad, batch 512", "bank"]
    page = (report.folder / "gpu-some-card.md").read_text()
    assert "Failed: adaad, batch 512." in page
    assert "in fail\n" in page and "OutOfMemoryError: no memory" in page


def test_a_part_that_raises_is_noted_and_ends_the_script_with_1(tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "measure_all", fail)
    monkeypatch.setattr(study, "run", lambda report, *rest: report.add_note("studied"))
    arguments = ["--device", "cpu", "--out", str(tmp_path), "--parts", "figures", "study"]
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run.main()
    assert ended.value.code == "failed: figures"  # which Python prints, with status 1
    (page,) = tmp_path.glob("gpu-*.md")
    text = page.read_text()
    assert "Failed: figures." in text and "studied" in text and "it took" in text


def test_a_models_row_grows_and_errors_end_no_study(report, monkeypatch):
    names = ("adaad-0", "adaad-0.fast", "robust", "robust.fast-teacher", "adaad-0.full")
    artefacts = {name: SimpleNamespace(kind="any", name=name) for name in names}
    errors = {"adaad-0.fast": ZeroDivisionError("nothing"), "robust": RetortError("no robust")}
    made = []

    def make_artefact(plan, ref):
        if ref in errors:
            raise errors[ref]
        made.append(ref)

    def add_model(report, plan, name, epochs):
        report.add_row(STUDY, [name, str(len(made)), *4 * ["–"]], name, len(made))
        rows.append((name, json.loads((report.folder / "gpu-some-card.json").read_text())))

    rows = []
    monkeypatch.setattr(study, "make_artefact", make_artefact)
    monkeypatch.setattr(study, "add_model", add_model)
    plan = SimpleNamespace(artefacts=artefacts)
    study.make_all(report, plan, {"robust": 1, "adaad": 1}, "cpu", float("inf"))
    assert made == ["adaad-0", "robust.fast-teacher", "adaad-0.full"]
    saved = [(name, data[STUDY][name]) for name, data in rows]
    assert saved == [("adaad", 1), ("robust", 2), ("adaad", 3)]
    assert report.format().count("| adaad |") == 1
    assert report.failures == ["any adaad-0.fast"]
    assert "Not made: any robust (no robust)." in report.notes


def test_a_textbook_form_runs_in_torchs_modes_and_ours_in_its_recipes():
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    names = ("allow_tf32", "benchmark", "deterministic")
    found, before = [], {name: getattr(cudnn, name) for name in names}

    def read():
        found.append((products.allow_tf32, *(getattr(cudnn, name) for name in names)))

    try:
        works = [figures.with_modes(figures.FAST, read), figures.with_defaults(read)]
        works.append(figures.with_modes({}, read))
        for work in (*works, *works):
            work()
    finally:
        for name, value in before.items():
            setattr(cudnn, name, value)
    ours, plain, bank = (False, False, True, False), (False, True, False, False), (False,) * 3
    assert found == 2 * [ours, plain, (*bank, True)]
