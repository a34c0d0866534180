"""Artefacts: files under their final name are complete, and altered ones are found."""

import json
import subprocess
import sys

import pytest

from pipeline.errors import RetortError
from pipeline.store.artefact import (
    JOB_FILE,
    MANIFEST_FILE,
    Job,
    Manifest,
    compute_sha256,
    describe_file,
    open_artefact,
    read_job,
    read_json,
    verify,
    write_atomically,
    write_json,
    write_manifest,
)

HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # sha256 of "hello"
KILLED = """
import sys
from pathlib import Path
from pipeline.store.artefact import write_atomically
with write_atomically(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half of it")
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def job(tmp_path) -> Job:
    """A bank's job with one input, and one finished file."""
    folder = tmp_path / "store" / "bank" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "data.bin").write_bytes(b"hello")
    order = {
        "kind": "bank",
        "name": "dad",
        "key": folder.name,
        "spec": {"eps": 0.1},
        "inputs": {"teacher": "teacher/aaaaaaaaaaaa"},
        "code": {"pipeline.banks.shards": 1},
        "run": {"data": "data"},
    }
    write_json(folder / JOB_FILE, order)
    return read_job(folder)


def test_a_job_is_its_spec_with_inputs_as_folders(job, tmp_path):
    assert job.inputs == {"teacher": (tmp_path / "store/teacher/aaaaaaaaaaaa").resolve()}
    assert (job.kind, job.name, job.spec, job.run) == (
        "bank",
        "dad",
        {"eps": 0.1},
        {"data": "data"},
    )


def test_a_manifest_comes_back(job):
    written = job.build_manifest(["data.bin"], {"rows": 3})
    assert not (job.folder / MANIFEST_FILE).exists()
    write_manifest(job, written)
    artefact = open_artefact(job.folder)
    assert artefact.manifest == written
    assert written.files == {"data.bin": {"sha256": HELLO, "bytes": 5}}
    assert written.inputs == {"teacher": "aaaaaaaaaaaa"}
    assert artefact.get_verified_path("data.bin").read_bytes() == b"hello"


def test_equal_values_are_equal_bytes(tmp_path):
    write_json(tmp_path / "a.json", {"b": 1, "a": [1.5, None]})
    write_json(tmp_path / "b.json", {"a": [1.5, None], "b": 1})
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "c.json", {"loss": float("nan")})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "b.json"]


def test_a_block_that_raises_leaves_nothing(tmp_path):
    path = tmp_path / "deep" / "file.bin"
    with pytest.raises(KeyError), write_atomically(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"half")
        raise KeyError
    assert list(path.parent.iterdir()) == []


def test_a_block_that_raises_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")
    with pytest.raises(KeyError), write_atomically(path) as temporary:  # noqa: PT012
        temporary.write_bytes(b"new")
        raise KeyError
    assert path.read_bytes() == b"old"
    with write_atomically(path) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_process_killed_while_it_writes_leaves_no_final_file(tmp_path):
    path = tmp_path / "file.bin"
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with child:
        assert child.stdout.readline() == b"writing\n"
        child.kill()
    assert child.returncode == -9
    assert not path.exists()
    with write_atomically(path) as temporary:
        temporary.write_bytes(b"whole")
    assert path.read_bytes() == b"whole"


def test_a_flipped_bit_and_a_missing_file_are_found(job):
    write_manifest(job, job.build_manifest(["data.bin"], {}))
    path = job.folder / "data.bin"
    path.write_bytes(b"hellp")
    with pytest.raises(RetortError, match="data.bin: does not match its manifest's sha256"):
        open_artefact(job.folder).get_verified_path("data.bin")
    path.unlink()
    with pytest.raises(RetortError, match="data.bin: is missing; delete"):
        open_artefact(job.folder).get_verified_path("data.bin")
    with pytest.raises(RetortError, match="has no file 'other.bin'; it has data.bin"):
        open_artefact(job.folder).get_verified_path("other.bin")


def test_sums(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"hello")
    assert compute_sha256(path) == HELLO
    assert describe_file(path) == {"sha256": HELLO, "bytes": 5}
    verify(path, HELLO)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "is missing; the artefact is not finished: run 'retort run'"),
        ('{"kind": ', "is not readable JSON"),
        ("[1]", "a JSON object is expected"),
        ('{"kind": "bank"}', "is not a manifest"),
        ('{"extra": 1}', "is not a manifest"),
    ],
)
def test_what_is_no_manifest_is_named(text, words, tmp_path):
    if text is not None:
        (tmp_path / MANIFEST_FILE).write_text(text)
    with pytest.raises(RetortError, match=words) as caught:
        open_artefact(tmp_path)
    assert MANIFEST_FILE in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "{}", '{"inputs": 5}', "nonsense", '{"inputs": {"a": 1}}'])
def test_what_is_no_work_order_is_named(text, tmp_path):
    if text is not None:
        (tmp_path / JOB_FILE).write_text(text)
    with pytest.raises(RetortError, match=JOB_FILE):
        read_job(tmp_path)


def test_a_manifest_is_found_through_its_name(job, tmp_path):
    write_manifest(job, job.build_manifest(["data.bin"], {}))
    link = tmp_path / "store" / "by-name" / "bank" / "dad"
    link.parent.mkdir(parents=True)
    link.symlink_to("../../bank/0123456789ab")
    assert open_artefact(link).folder == job.folder
    assert isinstance(open_artefact(link).manifest, Manifest)
    assert (
        read_json(link / MANIFEST_FILE, "")["key"]
        == json.loads((link / MANIFEST_FILE).read_text())["key"]
    )
