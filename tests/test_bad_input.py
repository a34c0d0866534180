"""Bad input stops before any job starts, with one line that names the key and the remedy."""

import shutil
from collections import namedtuple
from collections.abc import Callable

import pytest

from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.planning.plan import write_job_files
from tests.helpers.graph import Folder, text, tiny


def misspelt(raw: dict) -> None:
    raw["students"]["rslad"]["objective"] = {"rslad": {"stpe": 0.01}}


def missing_reference(raw: dict) -> None:
    raw["students"]["dad"]["bank"] = "dda"


def step_beyond_radius(raw: dict) -> None:
    raw["students"]["rslad"]["objective"] = {"rslad": {"eps": "2/255", "step": "8/255"}}


def negative_radius(raw: dict) -> None:
    raw["banks"]["dad"]["attack"] = {"eps": -0.1}


def too_many_images(raw: dict) -> None:
    raw["datasets"]["tiny"]["train"] = 50001


def cycle(raw: dict) -> None:
    for one, other in (("rslad", "adaad"), ("adaad", "rslad")):
        raw["students"][one]["teacher"] = other


FAULTS = {
    misspelt: "students.rslad.objective.rslad.stpe: unknown; did you mean 'step'?",
    missing_reference: "error: students.dad.bank: banks has no 'dda'; did you mean 'dad'?",
    step_beyond_radius: "students.rslad.objective.rslad.step: 0.0313725 is more than eps",
    negative_radius: "error: banks.dad.attack.eps: a number of 0 or more is expected (got -0.1)",
    too_many_images: "datasets.tiny.train: 50065 images asked for with val, cifar10 has 50000",
    cycle: "is made from itself (students.",
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_fault_is_one_line(fault: Callable):
    raw = tiny()
    raw["datasets"]["tiny"]["val"] = 64
    fault(raw)
    with pytest.raises(RetortError) as caught:
        make_plan_from_dict(raw)
    line = f"error: {caught.value}"
    assert FAULTS[fault] in line
    assert "\n" not in line


def test_snakemake_prints_the_line_and_starts_nothing(tmp_path):
    folder, raw = Folder(tmp_path), tiny()
    misspelt(raw)
    folder.write(raw)
    done = folder.snakemake()
    assert done.returncode != 0
    assert f"error: experiment.yaml:123: {FAULTS[misspelt]}" in text(done)
    assert "Traceback" not in text(done)
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_made_is_named(tmp_path):
    folder, raw = Folder(tmp_path), tiny()
    (tmp_path / "blocked").write_text("a file where the store should be")
    raw["store"] = "blocked/store"
    folder.write(raw)
    done = folder.snakemake()
    assert done.returncode != 0
    assert "error: experiment.yaml:1: store: blocked/store: blocked is not a folder; set" in text(
        done
    )
    assert "Traceback" not in text(done)


def test_a_full_store_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**9, 10**9, 5 * 2**20))
    plan = make_plan_from_dict({**tiny(), "store": str(tmp_path / "store")})
    with pytest.raises(RetortError, match=r"has 5 MB left and a run wants at least 200; free some"):
        write_job_files(plan)
    assert list((tmp_path / "store").iterdir()) == []


def test_a_folder_without_a_work_order_is_named(tmp_path):
    status, printed = Folder(tmp_path).run("distill", "store/student/0123456789ab")
    assert status == 2
    assert printed.startswith("error: ")
    assert "spec.json: is missing; write it by 'retort run'" in printed


def test_a_disk_that_fills_up_leaves_nothing_half_written(tmp_path):
    """A file-size limit of the process stands for the full disk: the write fails the same way."""
    folder, raw = Folder(tmp_path), tiny()
    folder.write({k: raw[k] for k in ("store", "seed", "run", "recipes", "datasets")})
    assert folder.fork("plan", "--configfile", str(folder.config), "--write")[0] == 0
    (place,) = (tmp_path / "store/dataset").iterdir()
    status, printed = folder.limited(100_000, "prepare_data", str(place))
    assert status == 2, printed
    assert "free some space and run again" in printed
    assert sorted(p.name for p in place.iterdir()) == ["attempts", "spec.json"]
    assert folder.fork("prepare_data", str(place))[0] == 0


def started(tmp_path, **changes) -> tuple[Folder, object]:
    """A folder with the tiny data set's job file written, its configuration changed."""
    folder, raw = Folder(tmp_path), tiny()
    kept = {k: raw[k] for k in ("store", "seed", "run", "recipes", "datasets", "teachers")}
    folder.write({**kept, **changes})
    assert folder.fork("plan", "--configfile", str(folder.config), "--write")[0] == 0
    return folder, tmp_path / "store/by-name"


def test_a_stage_refuses_another_kinds_folder(tmp_path):
    folder, names = started(tmp_path)
    status, printed = folder.fork("distill", str(names / "teacher/natural"))
    assert status == 2
    assert "holds a teacher; the stage that makes it is train_teacher" in printed


def test_a_gpu_job_without_a_gpu_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    folder, names = started(tmp_path, device="cuda")
    status, printed = folder.fork("train_teacher", str(names / "teacher/natural"))
    assert status == 2
    assert "error: device: teacher natural wants cuda, torch sees none" in printed
    assert "Traceback" not in printed


def test_a_moved_data_folder_reaches_an_unfinished_artefact(tmp_path):
    folder, names = started(tmp_path)
    raw = tiny()
    raw["run"]["data"] = "elsewhere"
    write_job_files(make_plan_from_dict({**raw, "store": str(tmp_path / "store")}))
    order = (names / "dataset/tiny/spec.json").read_text()
    assert '"data": "elsewhere"' in order


def test_more_shards_than_blocks_is_refused():
    raw = tiny()
    raw["banks"]["dad"]["shards"] = 9
    with pytest.raises(RetortError, match=r"banks\.dad\.shards: 9 shards, but its images are 8"):
        make_plan_from_dict(raw)


@pytest.mark.parametrize("section", ["discretizers", "generators"])
def test_nothing_selects_without_labels(section):
    raw = tiny()
    (entry,) = raw[section].values()
    entry["recipe"]["select_on"] = "val"
    with pytest.raises(RetortError, match=r"recipe\.select_on: there are no labels"):
        make_plan_from_dict(raw)


def test_a_suite_needs_test_images():
    raw = tiny()
    raw["datasets"]["tiny"]["test"] = 0
    for section in ("discretizers", "banks"):
        del raw[section]
    raw["students"] = {name: raw["students"][name] for name in ("natural", "rslad")}
    with pytest.raises(RetortError, match=r"datasets\.tiny\.test: 0 images, but suite 'main'"):
        make_plan_from_dict(raw)
