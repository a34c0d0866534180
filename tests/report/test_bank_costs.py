"""Robustness and its cost by bank: costs and shares by hand, which attack, when it is drawn."""

import pytest

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.outcomes import open_study
from pipeline.report.results import bank_costs
from pipeline.stages import report
from pipeline.store.artefact import open_artefact, write_json, write_manifest
from tests.helpers.points import CLEAN, EPS, pgd
from tests.report.test_page import (
    BANK_FACTS,
    CLASSES,
    RECIPE,
    Store,
    write_bank,
    write_data,
    write_outcomes,
    write_trained,
)

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

SECONDS = {  # CPU-seconds of each artefact
    "student/reference-0": 30.0, "bank/pgd": 40.0, "bank/adaad": 20.0, "bank/pgd-views": 60.0,
    "student/rslad-0": 90.0, "student/rslad-1": 110.0, "student/pgd-a-0": 10.0,
    "student/pgd-a-1": 14.0, "student/pgd-b-0": 8.0, "student/adaad-a-0": 16.0,
    "student/replay-0": 12.0,
}  # fmt: skip
RIGHT = {  # of 16 images under PGD-20
    "student/rslad-0": 8, "student/rslad-1": 8, "student/pgd-a-0": 4, "student/pgd-a-1": 4,
    "student/pgd-b-0": 0, "student/adaad-a-0": 8, "student/replay-0": 4,
}  # fmt: skip
VIEWS = {"count": 2}
STUDENTS = {  # objective and bank
    "rslad": ("rslad", None), "pgd-a": ("rslad_dad", "pgd"), "pgd-b": ("dad", "pgd"),
    "adaad-a": ("rslad_dad", "adaad"), "replay": ("rslad_dad", "pgd-views"),
}  # fmt: skip


def write_note(folder) -> list[str]:
    """Write a file that is no shard."""
    write_json(folder / "note.json", {})
    return ["note.json"]


def add_bank(store: Store, name: str, against: str = "", views: dict | None = None) -> None:
    """A finished bank; one with views holds no shard here."""
    inputs = {"dataset": "dataset/tiny", "teacher": "teacher/robust"}
    inputs |= {"against": against} if against else {}
    spec = {"attack": {"eps": 8 / 255}, "reject": "none", "views": views}
    write = write_bank if views is None else write_note
    store.add("bank", name, spec, inputs, write, BANK_FACTS)


def costed_store(folder, banks=("pgd", "adaad", "pgd-views")) -> Store:
    """Students of these banks, and one without any, all evaluated and with known costs."""
    store, spec = Store(folder), {"model": "r8", "recipe": RECIPE}
    counts = {"train": 16, "val": 16, "test": 16}
    facts = {"classes": CLASSES, "mean": [0.5] * 3, "std": [0.2] * 3, "shape": [3, 32, 32]}
    store.add("dataset", "tiny", {}, {}, write_data, {**facts, "counts": counts})
    data = {"dataset": "dataset/tiny"}
    teacher = {"model": "r8", "recipe": RECIPE, "objective": {"natural": {}}}
    store.add("teacher", "robust", teacher, data, write_trained)
    kd = {**spec, "objective": {"kd": {}}}
    taught = {**data, "teachers.teacher": "teacher/robust"}
    store.add("student", "reference-0", kd, taught, write_trained)
    for bank in banks:
        against = "student/reference-0" if bank == "adaad" else ""
        add_bank(store, bank, against, VIEWS if bank == "pgd-views" else None)
    for label in RIGHT:
        name = label.partition("/")[2]
        objective, bank = STUDENTS[name.rpartition("-")[0]]
        if bank is not None and bank not in banks:
            continue
        inputs = taught if bank is None else {**data, "bank": f"bank/{bank}"}
        store.add("student", name, {**spec, "objective": {objective: {}}}, inputs, write_trained)
        accuracy = {CLEAN: (12, 16), pgd(20, 4 / 255): (9, 16), pgd(20, EPS): (RIGHT[label], 16)}
        if bank != "adaad":
            accuracy |= {AttackPoint("autoattack", EPS): (1, 4)}
        tested = {**data, "model": label}
        store.add(
            "evaluation", f"{name}.main", {}, tested,
            lambda at, found=accuracy: write_outcomes(at, found),
        )  # fmt: skip
    for label, seconds in SECONDS.items():
        if label in dict(store.names):
            state_cost(store.inputs[dict(store.names)[label]], seconds)
    return store


def state_cost(folder, seconds: float) -> None:
    """Two attempts at an artefact that took these CPU-seconds together."""
    for path in (folder / "attempts").glob("*.json"):
        path.unlink()
    for part in (1, 2):
        record = {"seconds": 1.0, "cpu_seconds": seconds / 2, "peak_mb": 1}
        write_json(folder / "attempts" / f"timing-{part}.json", record)


@pytest.fixture(scope="module")
def costed(tmp_path_factory):
    """The study of students of three banks, and the report's job."""
    job = costed_store(tmp_path_factory.mktemp("costed")).job()
    return job, open_study(job)


def test_costs_and_shares_by_hand(costed):
    """Bank pgd, 40 s, has three readers; adaad, 20 s, one, and the reference's 30 s with it."""
    _, study = costed
    groups = bank_costs.list_students(study)
    point = bank_costs.choose_attack(groups)
    assert (point.attack, point.steps, point.eps) == (
        "pgd",
        20,
        EPS,
    )  # one student did not go through AutoAttack
    found = {s.name: s for s in bank_costs.collect_students(study, groups, point)}
    parts = {n: (s.own_seconds, round(s.bank_seconds, 3), s.bank) for n, s in found.items()}
    assert parts == {
        "rslad": (100.0, 0.0, "no bank"), "pgd-a": (12.0, 13.333, "pgd"),
        "pgd-b": (8.0, 13.333, "pgd"), "adaad-a": (16.0, 50.0, "adaad"),
        "replay": (12.0, 60.0, "pgd"),
    }  # fmt: skip
    points = {n: round(s.seconds_per_point, 3) for n, s in found.items()}
    assert points == {
        "rslad": 2.0, "pgd-a": 1.013, "pgd-b": float("inf"), "adaad-a": 1.32, "replay": 2.88,
    }  # fmt: skip
    assert found["replay"].objective == "rslad_dad, stored views"
    assert found["pgd-a"].accuracy.value == 0.25 and found["pgd-a"].accuracy.half_width == 0
    one_seed = found["adaad-a"].accuracy
    assert (one_seed.low, one_seed.high) == pytest.approx((0.28, 0.72), abs=0.01)


def test_the_strongest_attack_that_all_went_through_is_shown(tmp_path):
    study = open_study(costed_store(tmp_path, banks=("pgd", "pgd-views")).job())
    point = bank_costs.choose_attack(bank_costs.list_students(study))
    assert point == AttackPoint("autoattack", EPS)


def test_a_report_draws_it_and_says_the_numbers(costed):
    job, _ = costed
    write_manifest(job, report.run(job))
    text = (job.folder / "report.md").read_text()
    assert "## Robustness and its cost, by bank" in text
    (row,) = [
        line for line in text.splitlines() if line.startswith("| adaad-a ") and "rslad_dad" in line
    ]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:3] == ["adaad-a", "adaad", "rslad_dad"]
    assert cells[5] == "50.0 [28.0, 72.0]"
    assert bank_costs.FILE in open_artefact(job.folder).manifest.files
    assert "by bank" in (job.folder / "report.html").read_text()


def test_one_bank_is_no_comparison(tmp_path):
    study = open_study(costed_store(tmp_path, banks=("pgd",)).job())
    assert bank_costs.add_section(tmp_path, study) == ([], [])


def test_forty_banks_have_looks_of_their_own():
    banks = [*(f"bank-{i}" for i in range(40)), bank_costs.NO_BANK]
    looks = bank_costs.assign_looks(banks)
    assert looks.keys() == set(banks)
    assert len({tuple(look.values()) for look in looks.values()}) == len(banks)
    assert {look["fillstyle"] for look in bank_costs.assign_looks(banks[:7]).values()} == {"full"}
