"""GPU locks: jobs get separate GPUs, dead jobs release theirs, schedulers are respected."""

import os
import subprocess
import sys

import pytest

from pipeline.training import gpu_locks
from tests.helpers.graph import environment

HOLDER = """
import logging, os, sys
from pipeline.training.gpu_locks import hold_gpus
logging.basicConfig(level=logging.INFO, format="%(message)s")
with hold_gpus(int(sys.argv[1])):
    print(os.environ["CUDA_VISIBLE_DEVICES"], flush=True)
    sys.stdin.readline()
"""


class Holder:
    """Another process that locks some of the GPUs `a,b` and holds them until it is ended."""

    def __init__(self, locks, count: int = 1, **more: str) -> None:
        names = {"CUDA_VISIBLE_DEVICES": "a,b", "RETORT_LOCKS": str(locks)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(count)],
            env=environment() | names | more,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def got(self) -> str:
        """The GPUs that are visible to the process, once it holds them."""
        return self.process.stdout.readline().strip()

    def said(self) -> str:
        """The next line of the process's log."""
        return self.process.stderr.readline().strip()

    def end(self) -> None:
        """Let the process end by itself."""
        self.process.communicate("\n")
        assert self.process.returncode == 0


@pytest.fixture
def start(tmp_path):
    """A function that starts holders over one folder of locks; all are ended afterwards."""
    holders = []

    def one(count: int = 1, **more: str) -> Holder:
        holders.append(Holder(tmp_path / "locks", count, **more))
        return holders[-1]

    yield one
    for holder in holders:
        with holder.process:
            holder.process.kill()


def test_two_jobs_get_a_gpu_each_and_a_third_the_one_of_a_killed_job(start):
    first, second = start(), start()
    assert {first.got(), second.got()} == {"a", "b"}
    third = start()
    assert third.said() == "waiting for 1 of 2 GPUs"
    name = first.said().removeprefix("GPU ")
    first.process.kill()
    first.process.wait()
    assert third.got() == name


def test_a_job_of_two_is_not_overtaken(start):
    first = start()
    assert first.got() == "a"
    double = start(2)
    assert double.said() == "waiting for 1 of 2 GPUs"
    late = start()
    first.end()
    assert sorted(double.got().split(",")) == ["a", "b"]
    double.end()
    assert late.got() == "a"


def test_what_a_scheduler_has_set_is_left(start):
    cluster = {"SLURM_JOB_ID": "7", "CUDA_VISIBLE_DEVICES": "1"}
    jobs = [start(**cluster), start(**cluster)]
    assert [job.got() for job in jobs] == ["1", "1"]


def test_a_holders_child_keeps_its_gpus_and_the_environment_comes_back(monkeypatch, tmp_path):
    monkeypatch.setenv("RETORT_LOCKS", str(tmp_path))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    for name in gpu_locks.SCHEDULER_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with gpu_locks.hold_gpus(2):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        with gpu_locks.hold_gpus(2):  # as in its child
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    assert gpu_locks.HELD_VARIABLE not in os.environ


@pytest.mark.parametrize("count", [0, 4])
def test_nothing_is_locked_for_no_gpu_or_for_more_than_there_are(monkeypatch, tmp_path, count):
    monkeypatch.setenv("RETORT_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with gpu_locks.hold_gpus(count):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1,2"
    assert not (tmp_path / "locks").exists()


def test_gpus_are_named_as_the_driver_names_them(monkeypatch, tmp_path):
    tool = tmp_path / "nvidia-smi"
    lines = [f"GPU {i}: NVIDIA H100 80GB HBM3 (UUID: GPU-{i}d5ba0d6-d33d)" for i in range(2)]
    tool.write_text("#!/bin/sh\ncat <<E\n" + "\n".join(lines) + "\nE\n")
    tool.chmod(0o755)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert gpu_locks.list_gpus() == ["GPU-0d5ba0d6-d33d", "GPU-1d5ba0d6-d33d"]


def test_a_machine_without_a_driver_has_none(monkeypatch, tmp_path):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpu_locks.list_gpus() == []
