"""`verify` covers every file: a byte is flipped in each in turn; wrong hints do no harm."""

import dataclasses
import fnmatch
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.banks.shards import describe_shard_fault, is_whole, shard_name, sidecar_path
from pipeline.planning.graph import make_plan_from_dict
from pipeline.stages import build_bank
from pipeline.store.artefact import JOB_FILE, MANIFEST_FILE, read_json, write_json, write_manifest
from pipeline.store.attempt_cost import sum_attempt_costs
from pipeline.store.own_sum import add_own_sum, has_own_sum
from pipeline.upkeep.listing import list_refs
from pipeline.upkeep.run_summary import PlanRun
from pipeline.upkeep.verify import HINTS, find_faults
from tests.helpers import bank_store
from tests.helpers.copies import Copy, flip
from tests.helpers.graph import tiny

CONFIG = ("--configfile", "experiment.yaml")


def list_files(store: Path) -> Iterator[tuple[str, str]]:
    """`kind/key` and the name below its folder, of every file of every artefact."""
    for ref in list_refs(store):
        for path in sorted((store / ref).rglob("*")):
            if path.is_file():
                yield ref, str(path.relative_to(store / ref))


def is_hint(name: str) -> bool:
    """Whether a file is on the declared list of hints."""
    return any(fnmatch.fnmatch(name, pattern) for pattern in HINTS)


def test_one_flipped_byte_in_any_file_is_named(copy: Copy):
    store, hints = copy.path / "store", 0
    files = list(list_files(store))
    assert len(files) > 80
    assert {ref.partition("/")[0] for ref, _ in files} == {
        *("dataset", "teacher", "discretizer", "bank", "generator", "student"),
        *("evaluation", "report"),
    }
    for ref, name in files:
        path = store / ref / name
        before = path.read_bytes()
        if before:
            flip(path, len(before) // 2)
        else:
            path.write_bytes(b"x")
        named = [fault.file for fault in find_faults(store, ref)]
        if is_hint(name):
            hints += 1
            assert named == [], name
        else:
            assert named == [name], f"{ref}/{name}"
        path.write_bytes(before)
    assert hints > 20
    assert [fault for ref in list_refs(store) for fault in find_faults(store, ref)] == []


def test_wrong_hints_harm_nothing(copy: Copy):
    """With every hint altered, all is intact, nothing runs, and costs and tables are printed."""
    for ref, name in list_files(copy.path / "store"):
        if is_hint(name):
            (copy.path / "store" / ref / name).write_bytes(b"\xff\x00 no record")
    assert copy.run("verify", *CONFIG) == (0, "20 artefacts are intact\n")
    for verb in ("status", "results", "cost", "plan"):
        status, printed = copy.run(verb, *CONFIG, *(["--gflops", "1"] if verb == "cost" else []))
        assert status == 0, printed
    report = copy.place("report/report")
    (report / MANIFEST_FILE).unlink()
    assert copy.run("report", str(report))[0] == 0
    path = max((report / "attempts").glob("*.log"))
    path.write_bytes(b"\xff" + path.read_bytes())
    summary = PlanRun(make_plan_from_dict(tiny()))
    assert "attempts/run.log" in dataclasses.replace(summary, start_time=0).find_last_log_line(
        f"report/{report.name}"
    )


def test_a_report_that_lost_its_table_is_one_line(copy: Copy):
    (copy.place("report/report") / "table.md").unlink()
    status, printed = copy.run("results", *CONFIG)
    assert status == 2
    assert printed.startswith("error: ")
    assert "table.md" in printed


def test_a_job_file_s_run_part_is_mended_and_the_artefact_stays(copy: Copy):
    path = copy.place("teacher/robust") / JOB_FILE
    before = path.read_bytes()
    path.write_bytes(before.replace(b'"checkpoint_seconds": 60', b'"checkpoint_seconds": 61'))
    assert path.read_bytes() != before
    status, printed = copy.run("verify", *CONFIG)
    assert status == 2
    assert f"{JOB_FILE}: its 'name' or 'run' was altered, on which no number depends" in printed
    made = copy.refs()
    assert copy.run("verify", "--mend", *CONFIG)[0] == 0
    assert path.read_bytes() == before
    assert copy.refs() == made


@pytest.mark.parametrize("part", ["manifest", "job", "sidecar"])
def test_any_byte_of_a_small_file_counts(tmp_path, part):
    """Each byte of a JSON file in turn, two ways: named, or the content is the same."""
    store = bank_store.store_in(tmp_path)
    job = store.made(outputs={"clean": True}, **bank_store.BASE)
    path = {
        "manifest": job.folder / MANIFEST_FILE,
        "job": job.folder / JOB_FILE,
        "sidecar": sidecar_path(job.folder / shard_name(0)),
    }[part]
    fields = read_json(path, "")
    if part == "job":
        write_json(path, add_own_sum(fields))
        fields = read_json(path, "")
    for position in range(path.stat().st_size):
        for mask in (0x01, 0x20):
            data = bytearray(path.read_bytes())
            data[position] ^= mask
            try:
                altered = json.loads(data)
            except ValueError:
                continue
            known = {"kind", "name", "key", "spec", "inputs", "code", "run", "sha256", "bytes"}
            seen = isinstance(altered, dict) and has_own_sum(altered, known | {"counts", "bank"})
            assert not seen or altered == fields, (position, data[position])


def test_a_shard_with_an_altered_sidecar_is_made_again(tmp_path):
    """Counts that were altered before the manifest is made would be in its facts."""
    store = bank_store.store_in(tmp_path)
    job = store.made(**bank_store.SAMPLES)
    before, path = bank_store.shards_of(job), job.folder / shard_name(1)
    sidecar = read_json(sidecar_path(path), "")
    sidecar["counts"]["accepted"] += 1
    write_json(sidecar_path(path), sidecar)
    assert (
        describe_shard_fault(path, job.key) == "has a sidecar, shard-00001.json, that was altered"
    )
    (job.folder / MANIFEST_FILE).unlink()
    write_manifest(job, build_bank.run(job))
    assert is_whole(path, job.key)
    assert bank_store.shards_of(job) == before


def test_a_sidecar_from_before_there_were_sums_counts(tmp_path):
    store = bank_store.store_in(tmp_path)
    job = store.made(outputs={"clean": True}, **bank_store.BASE)
    path = job.folder / shard_name(0)
    sidecar = read_json(sidecar_path(path), "")
    del sidecar["sum"]
    write_json(sidecar_path(path), sidecar)
    assert is_whole(path, job.key)
    write_json(sidecar_path(path), sidecar | {"sun": "0"})
    assert not is_whole(path, job.key)


def test_group_markers_of_shards_that_are_not_there_skip_nothing(tmp_path):
    store = bank_store.store_in(tmp_path)
    job = store.bank(outputs={"clean": True}, **bank_store.BASE)
    write_json(job.folder / "groups/0-3.json", {"made": "none of them"})
    manifest = build_bank.run(job)
    assert len(manifest.files) == bank_store.SHARDS


def test_a_record_of_costs_that_cannot_be_read_is_left_out(tmp_path, caplog):
    good = {"seconds": 2, "cpu_seconds": 1, "peak_mb": 3}
    write_json(tmp_path / "attempts/timing-run-1.json", good)
    (tmp_path / "attempts/timing-run-2.json").write_text("{")
    write_json(tmp_path / "attempts/timing-run-3.json", good | {"seconds": "2"})
    assert sum_attempt_costs(tmp_path) == good
    assert caplog.text.count("is no readable record of an attempt's cost; left out") == 2
