"""A job's log where the disk is full, and where a run shows its jobs from their logs."""

import errno
import logging
import os
import resource
import signal
from pathlib import Path

import pytest
import torch

from pipeline.errors import RetortError, explain_error
from pipeline.store import checkpoint
from pipeline.store.logs import CONSOLE_VARIABLE, capture_job_log, get_log_path

log = logging.getLogger("retort")


@pytest.fixture
def shown_by_run(monkeypatch):
    """As in a job of a run that shows its jobs from their logs."""
    monkeypatch.setenv(CONSOLE_VARIABLE, "run")


def fill_disk(folder: Path) -> None:
    """Have the job's log be a file that finds no room for anything."""
    path = get_log_path(folder)
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/full")


def fail(folder: Path, error: Exception) -> None:
    """A job that says something, whose libraries print, and that fails."""
    with capture_job_log(folder, "run"):
        log.warning("says")
        os.write(1, b"a library prints\n")
        os.write(2, b"a library warns\n")
        raise error


def test_a_full_disk_prints_no_traceback_of_the_log(tmp_path, capfd):
    fill_disk(tmp_path)
    with pytest.raises(OSError, match="No space"):
        fail(tmp_path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    printed = capfd.readouterr()
    assert "Logging error" not in printed.err
    assert "Traceback" not in printed.err


def test_in_a_run_all_that_a_job_prints_is_in_its_log(tmp_path, capfd, shown_by_run):
    with pytest.raises(SystemExit) as end:
        fail(tmp_path, RetortError("recipe.lr: too large; lower it"))
    assert end.value.code == 2
    assert capfd.readouterr() == ("", "")
    lines = get_log_path(tmp_path).read_text().splitlines()
    ends = [line[20:] if line.startswith("20") else line for line in lines]
    words = ["a library prints", "a library warns", "error: recipe.lr: too large; lower it"]
    assert ends == ["says", *words]


def test_in_a_run_an_unforeseen_error_leaves_its_traceback_in_the_log(tmp_path, shown_by_run):
    with pytest.raises(SystemExit) as end, capture_job_log(tmp_path, "run"):
        raise ZeroDivisionError("nothing")
    assert end.value.code == 1
    text = get_log_path(tmp_path).read_text()
    assert "error: ZeroDivisionError('nothing')" in text
    assert "Traceback" in text


def test_in_a_run_an_error_that_found_no_room_reaches_the_terminal(tmp_path, shown_by_run):
    fill_disk(tmp_path)
    with pytest.raises(RetortError, match="the disk"), capture_job_log(tmp_path, "run"):
        raise RetortError("the disk is full")


@pytest.fixture
def small_files():
    """A process that can write no file of more than 5,000 bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


def test_a_checkpoint_that_finds_no_room_is_explained(tmp_path, small_files):
    """torch's own error, of a position in its archive, hides the system's."""
    with pytest.raises(RuntimeError, match="unexpected pos") as found:
        checkpoint.save(tmp_path / "checkpoint.pt", {"x": torch.zeros(30000)})
    full = "store/a: File too large; free some space and run again"
    assert explain_error(found.value, "store/a") == full


def test_a_gpu_without_memory_has_a_remedy_for_objectives_that_need_the_whole_batch():
    found = explain_error(torch.OutOfMemoryError("CUDA out of memory."), "store/a")
    assert "raise recipe.accumulate" in found
    assert found.endswith("needs the whole batch refuses accumulate: lower its batch instead")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (RetortError("a: b; c"), "a: b; c"),
        (MemoryError(), "store/a: out of memory; give its rule more (mem_mb) or lower its batch"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "store/a: the GPU is out of memory; raise recipe.accumulate, which makes the same",
        ),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
            "store/a: the GPU is out of memory; raise",
        ),
        (
            RuntimeError("cumsum_cuda_kernel does not have a deterministic implementation, but"),
            "store/a: recipe.deterministic: cumsum_cuda_kernel does not have a deterministic "
            "implementation; drop it",
        ),
        (PermissionError(errno.EACCES, "Permission denied", "f"), "f: Permission denied; make it"),
        (ZeroDivisionError("nothing"), ""),
        (FileNotFoundError(errno.ENOENT, "No such file", "f"), ""),
    ],
)
def test_errors_are_one_line_or_unforeseen(error, line):
    found = explain_error(error, "store/a")
    assert found.startswith(line)
    assert bool(found) == bool(line)
