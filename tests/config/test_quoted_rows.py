"""Rows of published checkpoints: a preset's commented teacher, or its student, stands there."""

import re
from functools import cache
from itertools import count

import pytest

from pipeline.report.papers.comparison import compare_with_print
from pipeline.report.papers.methods import PUBLISHED_MODELS
from pipeline.report.papers.printed import read_printed_table
from tests.config.test_preset_rows import models_of, study
from tests.config.test_presets import PRESETS, config, rows

COMMENTED = re.compile(r'^  #   ([\w-]+: \{dataset: .*(?:"0{64}"|: drvit-s,).*\})$', re.MULTILINE)
REASON = re.compile(r"; a (?:student of a )?teacher `([\w-]+)` from a file stands here")
HOMES = {  # by the end of the teacher's name
    "vitb": "dad-imagenet-vitb",
    "rn50": "dad-imagenet-rn50",
    "s": "dad-imagenet-rn50",
}
STUDENTS = {("DAD", "RN50"): "dad-rn50-drvits", ("DAD", "RN34"): "dad-rn34-drvits"}
STUDENTS |= {("KD", "RN50"): "kd-rn50-drvits", ("KD", "RN34"): "kd-rn34-drvits"}  # of DrViT-S
NAMES = {}  # teacher -> its rows
for row in rows():
    if (reason := REASON.search(row["reason"])) and not row["entry"]:
        NAMES.setdefault(reason[1], []).append(row)
PUBLISHED = {("dad", method) for method in PUBLISHED_MODELS} | {("darwin", "AT-PRM")}


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A function that compares a table with a preset whose commented teachers are in it."""

    @cache
    def read(preset: str):
        path = tmp_path_factory.mktemp("presets") / f"{preset}.yaml"
        sums = count(1)  # equal sections would be one artefact
        text = COMMENTED.sub(
            lambda found: "  " + found[1].replace("0" * 64, f"{next(sums):064x}"),
            (PRESETS / f"{preset}.yaml").read_text(),
        )
        path.write_text(text)
        return models_of(study(path))

    return cache(lambda preset, table: compare_with_print(read_printed_table(table), read(preset)))


@pytest.mark.parametrize("teacher", NAMES)
def test_a_teacher_from_a_file_stands_in_its_rows(teacher, compared):
    for row in NAMES[teacher]:
        preset = row["preset"] or HOMES[teacher.rpartition("-")[2]]
        assert teacher not in config(preset).teachers  # until its # is taken away
        asked = tuple(row[name] for name in ("teacher", "student", "method"))
        comparison = compared(preset, f"{row['paper']}.{row['table']}")
        cells = []
        for found in comparison.rows:
            known = found.identity
            if (known.teacher, known.student, known.method) == asked:
                own, told = teacher, "from a file"
                if known.teacher == "DrViT-S":
                    own = STUDENTS[known.method, known.student]
                    told = "teacher drvit-s (timm/vit_small_patch16_224) from a file"
                assert found.model == own and told in found.differences
                cells += [c for c in found.cells if c.printed]
        cells = [c for c in cells if c.printed.dataset == row["dataset"]]
        assert cells and all(cell.ours is not None for cell in cells), row


def test_every_row_of_a_published_method_says_which_teacher():
    """But for Table 7, whose columns are counts."""
    asked = [
        row
        for row in rows()
        if row["teacher"] == "DrViT-S"
        or ((row["paper"], row["method"]) in PUBLISHED and row["table"] != "7")
    ]
    assert len(asked) == sum(map(len, NAMES.values())) == 73 + 30
    assert all(REASON.search(row["reason"]) for row in asked)
