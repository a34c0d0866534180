"""The papers' tables beside ours: the printed values, the match, the difference, and the texts."""

import csv
import hashlib
import html
import io
import re
from collections import Counter
from pathlib import Path

import pytest
import yaml

from pipeline.config.paper_tables import PAPER_TABLES
from pipeline.config.reader import parse_config
from pipeline.core.attack_protocol import AttackPoint
from pipeline.errors import RetortError
from pipeline.report.outcomes import open_study
from pipeline.report.papers import printed
from pipeline.report.papers.printed import FLAGS, RowIdentity, read_printed_table
from pipeline.report.papers.render import FORMATS
from pipeline.report.papers.section import compare_tables
from pipeline.stages import report
from pipeline.store.artefact import open_artefact, write_manifest
from tests.helpers.graph import ROOT
from tests.helpers.points import CLEAN, EPS, pgd
from tests.report.test_page import CLASSES, Store, write_data, write_outcomes, write_trained

FOLDER = Path(printed.__file__).parent
NAMES = sorted(PAPER_TABLES)
COUNTED = {  # values of each table
    "adaad.1": 12,
    "adaad.2": 160,
    "adaad.3": 80,
    "adaad.4": 48,
    "adaad.5": 35,
    "dad.1": 119,
    "dad.2": 34,
    "dad.3": 40,
    "dad.4": 24,
    "dad.5": 136,
    "dad.6": 32,
    "dad.7": 12,
    "dad.8": 70,
    "dad.9": 42,
    "dad.10": 12,
    "dad.11": 12,
    "dad.12": 18,
    "darwin.1": 120,
    "darwin.2": 128,
    "darwin.3": 45,
    "darwin.4": 24,
    "darwin.5": 48,
    "darwin.6": 24,
    "darwin.7": 24,
    "darwin.8": 30,
    "darwin.weighting": 24,
    "derd.1": 42,
    "derd.2": 182,
    "derd.3": 168,
    "derd.4": 24,
    "derd.5": 28,
    "derd.6": 14,
}
SUM_OF_FILES = "da1a14276986"
RECIPE = {"epochs": 6, "batch": 8}
AA = AttackPoint("autoattack", EPS)


def tiny_store(folder):
    """Two students of AdaAD's second table, small, and their teacher."""
    store = Store(folder)
    facts = {"classes": CLASSES, "mean": [0.5] * 3, "std": [0.2] * 3, "shape": [3, 32, 32]}
    counts = {"train": 16, "val": 16, "test": 16}
    store.add("dataset", "tiny", {}, {}, write_data, {**facts, "counts": counts})
    data = {"dataset": "dataset/tiny"}
    robust = {"model": "wrn-34-10", "objective": {"pgd_at": {}}, "recipe": RECIPE}
    store.add("teacher", "robust", robust, data, write_trained, {"epochs": 6})
    taught = {**data, "teachers.teacher": "teacher/robust"}
    for name, objective, options in (
        *(("adaad-0", "adaad", {"steps": 3}), ("adaad-1", "adaad", {"steps": 3})),
        ("rslad-0", "rslad", {}),
    ):
        spec = {"model": "resnet8-s2-w4", "objective": {objective: options}}
        store.add("student", name, {**spec, "recipe": RECIPE}, taught, write_trained)
        right = {"adaad-0": 8, "adaad-1": 12, "rslad-0": 4}[name]
        found = {CLEAN: (right, 16), pgd(10, EPS): (4, 16), AA: (1, 4)}
        store.add(
            "evaluation", f"{name}.main", {}, {**data, "model": f"student/{name}"},
            lambda at, found=found: write_outcomes(at, found),
        )  # fmt: skip
    return store


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished report of the tiny store that shows every table."""
    job = tiny_store(tmp_path_factory.mktemp("store")).job(tables=NAMES)
    write_manifest(job, report.run(job))
    return job


@pytest.fixture(scope="module")
def comparisons(finished):
    """Every table beside the tiny store's numbers, by name."""
    return {c.name: c for c in compare_tables(open_study(finished), NAMES)}


def test_every_file_is_a_table_and_every_table_a_file():
    assert {path.stem for path in FOLDER.glob("*.csv")} == set(PAPER_TABLES.values())
    assert {name: len(read_printed_table(name).values) for name in NAMES} == COUNTED
    assert sum(COUNTED.values()) == 1811


def test_the_files_are_those_of_the_revision():
    """An edit of a file raises REVISION in ``printed.py``, and then the sum here."""
    text = "".join(path.read_text() for path in sorted(FOLDER.glob("*.csv")))
    digest = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert (printed.REVISION, digest) == (2, SUM_OF_FILES)


def test_values_are_flagged_and_quotes_are_marked():
    values = [(name, value) for name in NAMES for value in read_printed_table(name).values]
    assert Counter(v.flag for _, v in values) == {
        "": 1709, "doubtful": 54, "assigned": 24, "inconsistent": 16, "missing": 4, "wrong": 4,
    }  # fmt: skip
    assert all(
        v.flag in ("", *FLAGS) and (v.value is None) == (v.flag == "missing") for _, v in values
    )
    quoted = {(name, v.row.method) for name, v in values if v.is_quoted and name[:4] == "derd"}
    literature = {(f"derd.{n}", m) for n in (2, 3) for m in ("ARD", "IAD", "RSLAD")}
    assert quoted == literature | {("derd.2", "DFHL_RS")}  # the latter from its released log
    swapped = {v.metric: (v.text, v.flag) for n, v in values if n == "dad.4" and v.flag}
    assert swapped == {"sketch": ("16.4", "doubtful"), "a": ("23.1", "doubtful")}


def row_of(comparison, *names):
    """The row of a teacher, student and method, and its cells by metric."""
    (row,) = [r for r in comparison.rows if r.identity == RowIdentity("cifar10", *names)]
    return row, {c.printed.metric: c for c in row.cells}


def test_a_row_has_ours_the_paper_s_and_the_difference(comparisons):
    row, cells = row_of(comparisons["adaad.2"], "WRN-34-10", "RN-18", "AdaAD")
    clean, pgd10 = cells["clean"], cells["pgd10"]
    assert row.model == "adaad"
    # Two seeds, 8 and 12 of 16: mean 62.5, half of Student's t interval 12.706 * 12.5.
    assert clean.ours.value == 62.5
    assert clean.ours.high - 62.5 == pytest.approx(12.706 * 12.5, abs=0.01)
    assert clean.difference == pytest.approx(62.5 - clean.printed.value)
    assert (pgd10.ours.value, pgd10.ours.image_count) == (25, 16)
    assert cells["aa"].ours.image_count == 4
    assert cells["fgsm"].ours is None and cells["fgsm"].difference is None


def test_a_row_says_what_differs_in_its_setting(comparisons):
    row, _ = row_of(comparisons["adaad.2"], "WRN-34-10", "RN-18", "AdaAD")
    assert row.differences == (
        "resnet8-s2-w4 in place of RN-18",
        "6 epochs in place of 200",
        "16 of 50,000 training images",
        "attack in training: steps 3 in place of 10",
        "test images: 16 of 10,000 (clean, pgd10); 4 of 10,000 (aa)",
    )
    other, _ = row_of(comparisons["adaad.2"], "WRN-34-20", "RN-18", "AdaAD")
    assert other.model == "adaad"
    assert other.differences[1] == "teacher wrn-34-10 in place of WRN-34-20"
    _, cells = row_of(comparisons["adaad.2"], "WRN-34-10", "RN-18", "RSLAD")
    low, high = cells["clean"].ours.low, cells["clean"].ours.high  # Wilson's, of 4 of 16
    assert (low, high) == pytest.approx((10.18, 49.50), abs=0.01)


def test_rows_of_other_methods_families_and_data_sets_stay_empty(comparisons):
    for names in (("WRN-34-10", "MN-V2", "AdaAD"), ("WRN-34-10", "RN-18", "AKD")):
        row, cells = row_of(comparisons["adaad.2"], *names)
        assert row.model == "" and all(cell.ours is None for cell in cells.values())
    assert not any(row.model for row in comparisons["adaad.3"].rows)
    assert {row.model for row in comparisons["dad.1"].rows} == {""}


def read_cell_texts(end, text):
    """The words of a table's cells in one of the formats."""
    if end == "csv":
        return {line["paper"] for line in csv.DictReader(io.StringIO(text))}
    if end == "html":
        text = html.unescape(re.sub(r"<[^>]+>", " ", text))
    return set(re.split(r"[\s|&†‡]+|\$\\d?dagger\$", text))


@pytest.mark.parametrize("end", FORMATS)
@pytest.mark.parametrize("name", NAMES)
def test_every_table_is_written_with_every_value_of_the_paper(finished, name, end):
    text = (finished.folder / "tables" / f"{name}.{end}").read_text()
    words = read_cell_texts(end, text)
    expected = {v.text for v in read_printed_table(name).values if v.text}
    assert expected <= words, expected - words
    assert "None" not in words and "nan" not in words


def test_the_report_shows_the_tables_and_lists_their_files(finished):
    page = (finished.folder / "report.html").read_text()
    text = (finished.folder / "report.md").read_text()
    for name in ("AdaAD, Table 2", "DARWIN, weighting study", "DAD, Table 12"):
        assert f"### {name}\n" in text and f"<h3>{name}</h3>" in page
    files = open_artefact(finished.folder).manifest.files
    assert {f"tables/{n}.{end}" for n in NAMES for end in FORMATS} <= set(files)


def test_texts_say_what_was_not_run_and_what_is_not_to_be_relied_on(finished):
    text = (finished.folder / "tables" / "adaad.2.md").read_text()
    assert re.search(r"\| 62\.5 ±158\.8 / \d\d\.\d\d / [-+]\d\d\.\d +\|", text)
    assert re.search(r"\| – / \d\d\.\d\d +\|", text)
    assert "ours (adaad) is another setting: resnet8-s2-w4 in place of RN-18; " in text
    doubtful = (finished.folder / "tables" / "dad.4.md").read_text()
    assert "– / 16.4†" in doubtful and "ViT, ViT-B/16, imagenet, sketch, a: doubtful." in doubtful
    assert re.search(r"– / \d\d\.\d+‡", (finished.folder / "tables" / "derd.2.md").read_text())


def test_the_jsma_column_says_that_it_is_no_attack(finished):
    text = (finished.folder / "tables" / "adaad.4.md").read_text()
    assert "JSMA (to the true label: no attack) from ResNet-34" in text
    assert text.count("- JSMA aims at the true label here") == 1
    assert "JSMA" not in (finished.folder / "tables" / "adaad.2.md").read_text()


def test_latex_has_no_character_that_breaks_it(finished):
    for name in NAMES:
        text = (finished.folder / "tables" / f"{name}.tex").read_text()
        body = text[text.index(r"\begin{tabular}") :]
        assert body.isascii() and r"\toprule" in body, name
        assert not re.search(r"(?<!\\)[_%#]", body), name


def test_an_unknown_table_is_refused_with_the_nearest():
    with pytest.raises(
        RetortError, match=r"report\.tables\.0: 'adaad\.22' is unknown; .*'adaad\.2'"
    ):
        parse_config({"report": {"tables": ["adaad.22"]}})


def test_the_demo_shows_a_table():
    demo = yaml.safe_load((ROOT / "config.yaml").read_text())
    assert demo["report"]["tables"] == ["adaad.2"]
