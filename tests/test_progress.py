"""What a reader sees of a run: progress, each job's log, the summary, what a job asks for."""

import errno
import logging
import os

import pytest

from pipeline import progress
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan_from_dict
from pipeline.progress import Progress, WeightedProgress, format_duration, track_steps
from pipeline.resources import count_gpus, resolve_resources
from pipeline.store.logs import capture_job_log, get_log_path
from pipeline.upkeep.run_summary import PlanRun
from tests.config.test_reader import changed, line_of, small
from tests.training.test_loop import run as train

log = logging.getLogger("retort")


@pytest.fixture
def clock(monkeypatch):
    """A clock that stands until it is set."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_progress_says_what_is_left_after_a_resume(clock, caplog):
    caplog.set_level(logging.INFO, "retort")
    steps = Progress("step", total=100, done=40)
    for second in range(1, 61):  # one step a second
        clock[0] = 100.0 + second
        steps.add_steps()
    said = ["step 55/100  45 s left", "step 70/100  30 s left", "step 85/100  15 s left"]
    assert caplog.messages == said


def test_the_rate_is_the_mean_of_this_attempt(clock, caplog):
    caplog.set_level(logging.INFO, "retort")
    blocks = Progress("block", total=1000)
    clock[0] += 60
    blocks.add_steps(10)
    assert caplog.messages == ["block 10/1000  99 min left"]


def test_unequal_parts_are_weighed_by_the_time_of_their_kind(clock, caplog):
    """Two chunks of 10 passes took 20 s each; a third kind of 1000 passes is half done in 50 s."""
    caplog.set_level(logging.INFO, "retort")
    parts = [("pgd", 10.0), ("pgd", 10.0), ("square", 1000.0), ("fgsm", 10.0)]
    work = WeightedProgress("chunk", total=6, parts=parts)
    assert work.describe() == "pgd, chunk 3/6, 0% of it"
    for _ in range(2):
        clock[0] += 20
        work.finish_part()
    # 40 s for 20 passes: 2 s a pass for the 1,010 that are left
    assert work.estimate_seconds_left() == pytest.approx(2 * 1010)
    clock[0] += 50
    work.add_work(500)
    # square: 50 s for 500, so 50 s more; fgsm, unknown, at the mean of 90 s for 520 passes
    assert work.estimate_seconds_left() == pytest.approx(50 + 10 * 90 / 520)
    assert caplog.messages[-1] == "square, chunk 5/6, 50% of it  52 s left"
    work.finish_part()
    clock[0] += 1
    work.finish_part()
    assert progress.silence_watch.progress is None
    assert work.describe() == "chunk 6/6"  # the watch may have got hold of it before


def test_a_part_that_runs_longer_than_estimated_does_not_end_early(clock):
    work = WeightedProgress("chunk", total=1, parts=[("square", 100.0)])
    clock[0] += 95
    work.add_work(500)
    assert work.estimate_seconds_left() == pytest.approx(5)


def test_a_silent_job_says_every_minute_how_far_it_is(clock, caplog):
    caplog.set_level(logging.INFO, "retort")
    watch = progress.silence_watch
    with progress.report_silence("start"):
        watch.break_silence()
        assert caplog.messages == []
        clock[0] += 60
        watch.break_silence()
        log.info("data set ready")
        clock[0] += 60
        watch.break_silence()
        clock[0] += 60
        watch.break_silence()
        steps = Progress("artefact", 4)
        clock[0] += 60
        watch.break_silence()
        steps.add_steps(1)
        clock[0] += 60
        watch.break_silence()
        for _ in track_steps("shard", "ab", 2):
            clock[0] += 1
        assert watch.progress is None
    assert caplog.messages == [
        "still at work after: start",
        "data set ready",
        *["still at work after: data set ready"] * 2,
        "artefact 0/4  60 s so far",
        "artefact 1/4  3 min left",
        "artefact 1/4  6 min left",
    ]


def test_a_verb_that_says_nothing_is_not_made_to_talk(clock, caplog):
    caplog.set_level(logging.INFO, "retort")
    with progress.report_silence():
        clock[0] += 600
        progress.silence_watch.break_silence()
    assert caplog.messages == []


def test_training_counts_its_steps_over_all_epochs(tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "retort")
    monkeypatch.setattr(progress, "LOG_INTERVAL_SECONDS", 0)
    train(tmp_path)
    said = [text.partition("  ")[0] for text in caplog.messages if text.startswith("step ")]
    assert said == [f"step {n}/8" for n in range(1, 8)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5940, "99 min"), (11100, "3 h 05 min")],
)
def test_times_are_spoken(seconds, words):
    assert format_duration(seconds) == words


def attempt(folder, words: str, error: Exception) -> None:
    """A job that says something and fails."""
    with capture_job_log(folder, "0:2"):
        log.warning(words)
        raise error


def test_a_log_keeps_every_attempt_and_how_it_ended(tmp_path):
    full = RetortError("disk: is full; free some space")
    for words, error in (("first attempt", full), ("second attempt", ZeroDivisionError("nothing"))):
        with pytest.raises(type(error)):
            attempt(tmp_path, words, error)
    log.warning("outside")
    text = get_log_path(tmp_path, "0:2").read_text()
    ends = [line[20:] for line in text.splitlines() if line.startswith("20")]
    assert ends == [
        "first attempt",
        "error: disk: is full; free some space",
        "second attempt",
        "error: ZeroDivisionError('nothing')",
    ]
    assert "Traceback" in text
    assert get_log_path(tmp_path, "0:2") == tmp_path / "attempts" / "0-2.log"


def test_a_log_that_cannot_be_written_stops_nothing(tmp_path):
    (tmp_path / "attempts").write_text("a file in the folder's place")
    with capture_job_log(tmp_path, "run"):
        log.warning("goes on")


def finished(plan, ref) -> None:
    """An artefact of a plan, as far as the plan looks."""
    plan.folder_path(ref).mkdir(parents=True)
    plan.manifest_path(ref).touch()


def test_the_summary_tells_made_reused_failed_and_not_begun(tmp_path):
    plan = make_plan_from_dict(small() | {"store": str(tmp_path / "store")})
    data, natural, robust = (plan.refs_by_name[n] for n in NAMES)
    finished(plan, data)
    old = get_log_path(plan.folder_path(plan.refs_by_name["discretizer", "vq"]))
    old.parent.mkdir(parents=True)
    old.write_text("2020-01-01 00:00:00 error: of an earlier run\n")
    os.utime(old, (1, 1))
    run = PlanRun(plan)
    finished(plan, natural)
    with pytest.raises(RetortError), capture_job_log(plan.folder_path(robust), "run"):
        raise RetortError("recipe.lr: term 'ce' is not finite")
    lines = run.format_summary().splitlines()
    assert lines[:3] == ["made: 1 (teacher natural)", "reused: 1 (dataset tiny)", "not finished: 1"]
    assert lines[3].startswith("  teacher robust: 20")
    assert "error: recipe.lr: term 'ce' is not finite" in lines[3]
    assert str(get_log_path(plan.folder_path(robust))) in lines[3]
    assert lines[4].startswith(f"not begun: {len(plan.artefacts) - 3} (discretizer vq; bank dad; ")
    assert lines[5] == f"logs: {plan.store}/<kind>/<key>/attempts/*.log"
    assert lines[6:] == ["to go on, run the same command again: what is made or saved is kept"]


def test_the_summary_of_a_full_disk_says_so(tmp_path, monkeypatch):
    """The job's log is there and empty: there was no room for a word."""
    plan = make_plan_from_dict(small() | {"store": str(tmp_path / "store")})
    data = plan.refs_by_name["dataset", "tiny"]
    run = PlanRun(plan)
    path = get_log_path(plan.folder_path(data))
    path.parent.mkdir(parents=True)
    path.touch()
    os.utime(path, (run.start_time + 1, run.start_time + 1))
    assert "dataset tiny: no word: it was killed before its first line" in run.format_summary()

    def refuse(file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    full = f"{plan.store}: No space left on device; free some space and run again"
    assert f"  dataset tiny: {full} ({path})" in run.format_summary().splitlines()
    assert run.format_summary().splitlines()[-2] == full


NAMES = (("dataset", "tiny"), ("teacher", "natural"), ("teacher", "robust"))


def test_a_kinds_needs_stand_before_those_of_all():
    asked = {"all": {"mem_mb": 8000, "partition": "gpu"}, "bank": {"mem_mb": 16000, "runtime": 90}}
    raw = changed("run.resources", asked)
    run = make_plan_from_dict(raw).run
    assert resolve_resources(run, "bank") == {
        "mem_mb": 16000,
        "runtime": 90,
        "gpus": None,
        "partition": "gpu",
    }
    assert resolve_resources(run, "student")["mem_mb"] == 8000
    assert resolve_resources({}, "student")["mem_mb"] == 4000
    assert (
        make_plan_from_dict(raw).artefacts.keys() == make_plan_from_dict(small()).artefacts.keys()
    )


def test_gpus_are_those_asked_for_or_those_computed_on():
    run = {"resources": {"student": {"gpus": 3}}}
    assert count_gpus("student", {"device": "cpu"}, run) == 3
    assert count_gpus("teacher", {"device": "cuda"}, run) == 1
    assert count_gpus("teacher", {"device": "cuda"}, run, processes=2) == 2
    assert count_gpus("teacher", {"device": "cpu"}, run) == 0
    assert count_gpus("dataset", {}, run) == 0


def test_a_misspelt_need_is_named():
    raw = changed("run.resources", {"student": {"memory": 1}})
    assert line_of(raw).startswith("run.resources.student.memory: unknown")
