"""What `make slurm-test` builds on, without a controller: stages that wait, claims that say why."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.graph import ROOT
from tests.workflow.slurm import cluster, trouble
from tests.workflow.slurm.claims import find_second, judge_troubles, show_evidence
from tests.workflow.slurm.hooks.sitecustomize import hold
from tests.workflow.slurm.trouble import Watch, find_held, is_due, look, read_state, release

LISTED = """\
JobId=3 Comment=rule_teacher_wildcards_/store/ab12 JobState=FAILED Restarts=0 MinMemoryNode=1000M
JobId=9 Comment=rule_teacher_wildcards_/store/ab12 JobState=COMPLETED MinMemoryNode=2000M \
TimeLimit=02:00:00
JobId=4 Comment=rule_student_wildcards_/store/cd34 JobState=CANCELLED
JobId=5 Comment=rule_evaluation_wildcards_/store/ef56 JobState=COMPLETED Restarts=1
JobId=6 JobState=COMPLETED"""


def test_the_profile_makes_no_arrays():
    """A task of the plugin's arrays that is preempted deletes what the first one has made."""
    assert "array" not in (ROOT / "profiles/slurm/config.yaml").read_text()


def fork(work: Callable[[], None]) -> int:
    """A child that does one thing and ends; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return pid


def distil(notes: Path, artefact: Path) -> None:
    """A stage that writes outside its artefact and then, under a temporary name, in it."""
    hold(notes, "distill", artefact)
    for folder in (artefact.parent, artefact):
        (folder / ".part").write_text("x")
        os.replace(folder / ".part", folder / "file")


@pytest.fixture
def held(tmp_path, monkeypatch) -> tuple[Watch, Path]:
    """A watch whose tickets lie out, and an artefact's folder."""
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    watch, artefact = Watch(tmp_path / "held"), tmp_path / "store" / "ab12"
    artefact.mkdir(parents=True)
    watch.hold_stages()
    return watch, artefact


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of a fork beside threads
def test_the_first_stage_of_a_verb_waits_before_its_first_file_and_no_other_does(held):
    watch, artefact = held
    first = fork(lambda: distil(watch.notes, artefact))
    assert os.WIFSTOPPED(os.waitpid(first, os.WUNTRACED)[1])
    assert (artefact.parent / "file").exists() and not (artefact / "file").exists()
    assert find_held(watch, "distill") == (17, first)
    assert find_held(watch, "evaluate") == (0, 0)
    second = fork(lambda: distil(watch.notes, artefact))
    assert os.waitpid(second, os.WUNTRACED)[1] == 0
    assert (artefact / "file").exists()
    release(watch)
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == -signal.SIGKILL
    assert find_held(watch, "distill") == (0, 0) and read_state(first) == ""


def test_what_hits_every_job_waits_until_no_other_trouble_is_left(tmp_path):
    watch = Watch(tmp_path)
    assert is_due(watch, "kill") and is_due(watch, "cancel") and not is_due(watch, "preempt")
    watch.done |= {"kill": 3, "cancel": 4}
    assert not is_due(watch, "kill") and is_due(watch, "preempt")
    watch.done["preempt"] = 5
    assert not is_due(watch, "preempt")


def watched(tmp_path: Path, **done: int) -> Watch:
    watch = Watch(tmp_path / "held", done=done)
    look(watch, LISTED)
    return watch


def test_a_claim_that_does_not_hold_says_what_was_seen(tmp_path):
    watch = watched(tmp_path, kill=3, cancel=4, preempt=5)
    assert sorted(watch.jobs) == [3, 4, 5, 9]
    assert find_second(watch, 3)["JobId"] == "9"
    three, again, twice, requeued = judge_troubles(watch)
    assert three.holds and requeued.holds
    assert not again.holds and again.seen["cancel"] == {}
    assert not twice.holds
    assert twice.seen == {"kill": ("2000M", "02:00:00"), "cancel": (None, None)}
    assert [claim.holds for claim in judge_troubles(watched(tmp_path))] == [False] * 4


def test_the_evidence_shows_jobs_and_the_ends_of_logs(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))  # nobody answers
    log = tmp_path / "logs/slurm/rule_student/cd34/4.log"
    log.parent.mkdir(parents=True)
    log.write_text("first\n" * 50 + "no space left\n")
    log.with_name("5.log").write_text("all is well")
    shown = show_evidence(watched(tmp_path), tmp_path, tmp_path / "cluster")
    assert "  3 teacher ab12 JobState=FAILED Restarts=0 MinMemoryNode=1000M" in shown
    assert "no space left" in shown and shown.count("first") == 39
    assert "all is well" not in shown


def test_a_client_that_fails_is_asked_again_and_then_named(tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(cluster.time, "sleep", waits.append)
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 0)
    with pytest.raises(cluster.Failed, match="no controller"):
        cluster.ask(sys.executable, "-c", "raise SystemExit('no controller')")
    assert waits == []
    monkeypatch.setattr(cluster, "PATIENCE_SECONDS", 600)
    mark = tmp_path / "mark"
    once = f"import pathlib, sys; p = pathlib.Path({str(mark)!r})"
    once += "; print(5) if p.exists() else (p.touch(), sys.exit(1))"
    assert cluster.ask(sys.executable, "-c", once) == "5"
    assert waits == [1]


def test_a_run_that_does_not_end_is_a_failure_that_says_so(tmp_path, monkeypatch):
    class Endless:
        def poll(self) -> None:
            return None

    monkeypatch.setattr(trouble, "query", lambda *command: LISTED)
    with pytest.raises(cluster.Failed, match="has not ended after 0 s"):
        trouble.make_trouble(Watch(tmp_path), Endless(), 0)
