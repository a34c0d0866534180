"""Killed at any moment, a stage goes on where it was and ends with the same bytes."""

import base64
import json
import os
import signal
from pathlib import Path

import pytest

from tests.helpers.graph import Folder, read_until, tiny

KILLS = (signal.SIGTERM, signal.SIGKILL)


def experiment(**sections) -> dict:
    """The tiny experiment's data set with these sections, saving after every step."""
    raw = tiny()
    kept = {name: raw[name] for name in ("store", "seed", "recipes", "datasets")}
    return {**kept, "run": {**raw["run"], "checkpoint_seconds": 0}, **sections}


def ready(path: Path, raw: dict) -> tuple[Folder, dict[str, Path]]:
    """A folder whose job files are written; artefact folders by `kind/name`."""
    folder = Folder(path)
    folder.write(raw)
    status, printed = folder.fork("plan", "--configfile", str(folder.config), "--write")
    assert status == 0, printed
    links = (path / "store/by-name").glob("*/*")
    return folder, {f"{link.parent.name}/{link.name}": link.resolve() for link in links}


def sums(artefact: Path) -> dict[str, str]:
    """Digests of a finished artefact's files."""
    files = json.loads((artefact / "manifest.json").read_text())["files"]
    return {name: about["sha256"] for name, about in files.items()}


def finish(folder: Folder, verb: str, artefact: Path) -> str:
    """Run a stage to its end."""
    status, printed = folder.fork(verb, str(artefact))
    assert status == 0, printed
    return printed


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> dict[str, Path]:
    """Everything these tests kill, made without a kill."""
    folder, made = ready(tmp_path_factory.mktemp("undisturbed"), graph())
    finish(folder, "prepare_data", made["dataset/tiny"])
    finish(folder, "train_teacher", made["teacher/natural"])
    finish(folder, "train_discretizer", made["discretizer/vq"])
    finish(folder, "build_bank", made["bank/dad"])
    finish(folder, "warm_generator", made["generator/derd"])
    finish(folder, "distill", made["student/derd-0"])
    return made


def graph() -> dict:
    """A teacher, and what is made from it."""
    raw = tiny()
    teacher = {**raw["teachers"]["natural"], "epochs": 3}
    both = dict.fromkeys(("natural", "robust"), "natural")
    return experiment(
        teachers={"natural": teacher},
        discretizers=raw["discretizers"],
        banks={"dad": {**raw["banks"]["dad"], "teacher": "natural", "shards": 4}},
        generators={"derd": {**raw["generators"]["derd"], "epochs": 2, "grids": [0, 0.5]}},
        students={"derd": {**raw["students"]["derd"], "teachers": both, "epochs": 2}},
    )


STAGES = {
    "teacher/natural": ("train_teacher", "epoch 1/3", "resumed"),
    "generator/derd": ("warm_generator", "epoch 1/2", "resumed"),
    "student/derd-0": ("distill", "epoch 1/2", "resumed"),
}


@pytest.mark.parametrize("number", KILLS, ids=lambda s: s.name)
@pytest.mark.parametrize("name", STAGES)
def test_training_ends_as_if_uninterrupted(tmp_path, undisturbed, name, number):
    verb, moment, word = STAGES[name]
    folder, made = ready(tmp_path, graph())
    borrow(made, undisturbed, without=name)
    process = folder.stage(verb, str(made[name]))
    read_until(process, moment)
    process.send_signal(number)
    process.communicate()
    assert process.returncode != 0
    assert not (made[name] / "manifest.json").exists()
    printed = finish(folder, verb, made[name])
    assert word in printed
    assert ("died; if it ran out of memory" in printed) == (number == signal.SIGKILL)
    assert sums(made[name]) == sums(undisturbed[name])


def borrow(made: dict[str, Path], source: dict[str, Path], without: str) -> None:
    """Link finished artefacts of another store, all but one."""
    for name, place in made.items():
        if name != without:
            (place / "spec.json").unlink()
            place.rmdir()
            place.symlink_to(source[name])


def test_a_workflow_killed_as_a_job_ends_goes_on_with_all_that_is_missing(tmp_path, undisturbed):
    folder, made = ready(tmp_path, graph())
    borrow(made, undisturbed, without="student/derd-0")
    # What Snakemake leaves where it dies between a job's end and its own note of it
    output = f"store/teacher/{made['teacher/natural'].name}/manifest.json"
    marks = tmp_path / ".snakemake" / "incomplete"
    marks.mkdir(parents=True)
    (marks / base64.b64encode(output.encode()).decode()).write_text('{"external_jobid": null}')
    printed = folder.snakemake("--dry-run").stdout
    assert "student derd-0" in printed
    assert "teacher natural" not in printed


@pytest.mark.parametrize("number", KILLS, ids=lambda s: s.name)
def test_a_bank_keeps_its_finished_shards(tmp_path, undisturbed, number):
    folder, made = ready(tmp_path, graph())
    bank = made["bank/dad"]
    borrow(made, undisturbed, without="bank/dad")
    process = folder.stage("build_bank", str(bank), "--shards", "0:4")
    read_until(process, "shard 0:")
    process.send_signal(number)
    process.communicate()
    first = (bank / "shard-00000.tar").stat().st_mtime_ns
    finish(folder, "build_bank", bank)
    assert (bank / "shard-00000.tar").stat().st_mtime_ns == first
    assert sums(bank) == sums(undisturbed["bank/dad"])
    assert not list(bank.glob(".*.part")) or number == signal.SIGKILL


def test_a_cut_shard_alone_is_made_again(tmp_path, undisturbed):
    folder, made = ready(tmp_path, graph())
    bank = made["bank/dad"]
    borrow(made, undisturbed, without="bank/dad")
    finish(folder, "build_bank", bank)
    (bank / "manifest.json").unlink()
    cut = bank / "shard-00002.tar"
    cut.write_bytes(cut.read_bytes()[:5000])
    others = {p: p.stat().st_mtime_ns for p in bank.glob("shard-*.tar") if p != cut}
    finish(folder, "build_bank", bank)
    assert sums(bank) == sums(undisturbed["bank/dad"])
    assert {p: p.stat().st_mtime_ns for p in others} == others


def test_a_killed_workflow_goes_on_without_flags(tmp_path):
    raw = tiny()
    folder = Folder(tmp_path)
    folder.write(experiment(teachers={"natural": {**raw["teachers"]["natural"], "epochs": 3}}))
    running = folder.start()
    read_until(running, "teacher natural: epoch 1/3")
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    assert "teacher natural: resumed at epoch" in folder.make()
    assert "Nothing to be done" in folder.make()
