"""A bank of generated images: which image stands for a row, the filter, the plan, a student."""

import json
import math
from pathlib import Path

import pytest
import torch

from pipeline.banks.builder import BankBuilder
from pipeline.banks.generated import choose_images
from pipeline.banks.reader import read_bank
from pipeline.core.seeding import derive_seed
from pipeline.data.dataset_artefact import open_dataset
from pipeline.data.splits import Split
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.stages.build_bank import compute_bank_facts
from pipeline.store.artefact import Job
from tests.banks.test_builder import maker
from tests.helpers import pictures
from tests.helpers.graph import tiny
from tests.helpers.making import made as made_in_full

GENERATED = {"dataset": "tiny", "teacher": "natural", "images": "made", "shards": 2, "block": 64}


def grey_images(labels: list[int], side: int = 4) -> Split:
    """Image i is grey of level i."""
    levels = torch.arange(len(labels), dtype=torch.uint8).view(-1, 1, 1, 1)
    return Split(levels.expand(-1, 3, side, side).contiguous(), torch.tensor(labels))


def test_each_row_has_an_image_of_its_class_drawn_by_itself():
    made = grey_images([0, 1, 0, 1, 1])
    chosen = choose_images(made, [0, 1, 1], range(7, 10), 5)[:, 0, 0, 0].tolist()
    own = [derive_seed(5, "generated", row) for row in (7, 8, 9)]
    assert chosen == [[0, 2][own[0] % 2], [1, 3, 4][own[1] % 3], [1, 3, 4][own[2] % 3]]
    assert choose_images(made, [1], range(9, 10), 5)[0, 0, 0, 0] == chosen[2]
    with pytest.raises(RetortError, match="no training image of class 2"):
        choose_images(made, [2], range(1), 5)


def test_the_teacher_filters_generated_images():
    made = maker()
    spec = {"seed": 5, "device": "cpu", "reject": "drop", "shards": 1, "block": 12}
    builder = BankBuilder(Job(Path(), "bank", "b", "k", spec, {"images": Path()}, {}))
    labels = made.split.labels.tolist()
    builder.__dict__.update(teacher=made.teacher, split=made.split, generated=made.split)
    block, counts = builder.build_block(range(12), True)
    chosen = choose_images(made.split, labels, range(12), 5)
    assert block["accepted"].all() and counts["accepted"] == 12  # labels are the teacher's own
    assert (torch.from_numpy(block["x_adv"]) == chosen).all()
    wrong = Split(made.split.images, (made.split.labels + 1) % 3)
    builder.__dict__["generated"] = wrong
    block, counts = builder.build_block(range(12), True)
    assert counts["accepted"] == 0 and len(block["x_adv"]) == len(block["t_adv"]) == 0
    facts = compute_bank_facts({**counts, "rows": 12})
    assert facts["acceptance"] == 0 and "token_flips" not in facts


def planned(**more):
    raw = tiny()
    raw["datasets"]["made"] = {"source": "cifar10", "train": 256, "val": 0, "test": 8}
    raw["banks"]["made"] = {**GENERATED, **more}
    raw["students"]["dad"] |= {"bank": "made", "teacher": "natural"}
    return make_plan_from_dict(raw)


def test_a_student_reads_a_bank_of_generated_images():
    plan = planned()
    bank = plan.artefacts[plan.refs_by_name["bank", "made"]]
    assert set(bank.inputs) == {"dataset", "teacher", "images"}
    assert bank.spec["reject"] == "drop" and "images" not in bank.spec
    assert "pipeline.banks.generated" in bank.code


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"discretizer": "vq"}, "drop 'discretizer'"),
        ({"reject": "keep"}, "reject: does not go with 'images'"),
        ({"encoding": "tokens"}, "drop 'discretizer' and tokens"),
        ({"images": "mad"}, "did you mean 'made'"),
    ],
)
def test_what_does_not_go_with_generated_images_is_refused(more, message):
    with pytest.raises(RetortError, match=message):
        planned(**more)


def test_a_student_is_trained_from_a_folder_of_generated_images_per_class(tmp_path):
    """Twelve real images, and six generated ones; the teacher may refuse a few."""
    recipe = {"epochs": 2, "batch": 4, "lr": 0.05, "augment": "none"}
    datasets = {
        name: {"source": pictures.source(pictures.folders(tmp_path / name, each=each)), **counts}
        for name, each, counts in (
            ("real", 4, {"train": 12, "val": 0, "test": 0}),
            ("made", 2, {"train": 6, "val": 0, "test": 0}),
        )
    }
    raw = {
        "store": str(tmp_path / "store"),
        "device": "cpu",
        "run": {"data": str(tmp_path)},
        "datasets": datasets,
        "teachers": {"t": {"dataset": "real", "model": "resnet8-s2-w4", "recipe": recipe}},
        "banks": {"b": {"dataset": "real", "teacher": "t", "images": "made", "shards": 1}},
        "students": {
            "s": {"dataset": "real", "bank": "b", "model": "resnet8-s2-w4", "objective": "dad"}
        },
    }
    raw["students"]["s"]["recipe"] = recipe
    found = made_in_full(make_plan_from_dict(raw))
    stored = read_bank(found["bank/b"].folder, ("x_adv",)).fields
    real, made = (open_dataset(found[f"dataset/{n}"].folder).read_split("train") for n in datasets)
    chosen = choose_images(
        made, real.labels.tolist(), range(12), found["bank/b"].manifest.spec["seed"]
    )
    assert 0 < len(stored["row"]) <= 12
    assert (stored["x_adv"] == chosen[stored["row"]]).all()
    student = found["student/s-0"]
    assert student.manifest.inputs["bank"] == found["bank/b"].manifest.key
    history = json.loads((student.folder / "history.json").read_text())["epochs"]
    losses = [value for record in history for value in record.values()]
    assert len(history) == 2 and all(map(math.isfinite, losses))
