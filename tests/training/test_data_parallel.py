"""Several processes in a job: two gloo ranks on the CPU train as one process does."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from pipeline.cli.main import main
from pipeline.config.reader import parse_config
from pipeline.core import collectives
from pipeline.errors import RetortError
from pipeline.planning.graph import make_plan
from pipeline.planning.plan import write_job_files
from pipeline.stages import evaluate
from pipeline.store.artefact import Job, read_job
from pipeline.training import sync_batchnorm, torchrun
from tests.helpers import ranked
from tests.helpers.graph import ROOT, Folder, environment, read_until, tiny

VQ = ["discretiser", "adversary"]
CASES = [*ranked.cases(), *VQ]
OWN = [name for name in ranked.cases() if name.startswith("own statistics")]
EXACT, SINGLE = 1e-9, 2e-5  # the VQGAN computes codes in single precision


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict[str, dict]:
    """The results of every training by one process ("one") and by two (0 and 1)."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.helpers.ranked", str(folder)]
    local = {**environment(), "GLOO_SOCKET_IFNAME": "lo"}
    two = [
        subprocess.Popen([*command, str(rank), "2"], cwd=ROOT, env=local, stderr=subprocess.PIPE)
        for rank in range(2)
    ]
    before = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)}
    one = ranked.every(folder / "one", 0, 1)
    assert {s: signal.getsignal(s) for s in before} == before
    for process in two:
        _, printed = process.communicate()
        assert process.returncode == 0, printed.decode()[-3000:]
    return {"one": one} | {rank: torch.load(folder / f"rank-{rank}.pt") for rank in range(2)}


def close(one: dict, two: dict, tolerance: float) -> None:
    """Assert that two states hold the same numbers."""
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], atol=tolerance, rtol=0, msg=name)


@pytest.mark.parametrize("name", [c for c in CASES if c not in OWN])
def test_two_ranks_train_as_one_process_on_the_same_batches(found, name):
    one, two = found["one"][name], found[0][name]
    tolerance = SINGLE if name in VQ else EXACT
    close(one["student"], two["student"], tolerance)
    close(one["objective"], two["objective"], tolerance)
    close(one["teachers"], two["teachers"], tolerance)
    for first, second in zip(one["history"], two["history"], strict=True):
        assert first == pytest.approx(second, abs=tolerance, rel=0)


@pytest.mark.parametrize("name", [*ranked.list_plugin_names("objectives"), *OWN, *VQ])
def test_both_ranks_end_with_the_same_bits(found, name):
    close(found[0][name]["student"], found[1][name]["student"], 0)
    close(found[0][name]["teachers"], found[1][name]["teachers"], 0)


def test_the_trainings_move_their_weights(found):
    start = ranked.network(0).state_dict()
    for name in ranked.list_plugin_names("objectives"):
        moved = found[0][name]["student"]["network.fc.weight"] - start["network.fc.weight"]
        assert moved.abs().max() > 1e-4, name


def test_a_teacher_that_trains_moves_on_both_ranks(found):
    start = ranked.teacher(2).state_dict()
    for name in ("ciard", "own statistics of a teacher"):
        left = found[0][name]["teachers"]
        for key in ("network.fc.weight", "network.norms.0.running_mean"):
            assert not torch.equal(left[f"robust.{key}"], start[key])


def test_own_statistics_are_another_training(found):
    one, two = (found[who]["own statistics"]["student"] for who in ("one", 0))
    assert max((one[k] - two[k]).abs().max() for k in one if one[k].is_floating_point()) > 1e-4


def test_a_stop_of_one_rank_stops_both_and_the_next_run_ends_bit_for_bit(found):
    for rank in range(2):
        assert found[rank]["stopped first"] == {"status": 128 + signal.SIGTERM}
    close(found[0]["stopped"]["student"], found[0]["unbroken"]["student"], 0)
    assert found[0]["stopped"]["history"] == found[0]["unbroken"]["history"]


def test_one_process_alone_exchanges_nothing():
    x = torch.arange(6.0).view(3, 2)
    for same in (
        collectives.all_reduce_sum,
        collectives.all_gather,
        collectives.take_own_rows,
        collectives.repeat_for_ranks,
    ):
        assert same(x) is x
    assert (
        collectives.get_rank(),
        collectives.get_world_size(),
        collectives.all_reduce_max(3),
        collectives.broadcast_object("a"),
    ) == (0, 1, 3, "a")
    assert collectives.sum_numbers([1, 2]) == [1, 2]
    assert collectives.all_reduce_mean([x])[0] is x


def test_a_shared_batchnorm_alone_is_torchs():
    for plain in (torch.nn.BatchNorm2d(3), torch.nn.BatchNorm2d(3, momentum=None, affine=False)):
        plain.double()
        network = torch.nn.Sequential(torch.nn.Sequential(torch.nn.BatchNorm2d(3))).double()
        network[0][0] = type(plain)(3, momentum=plain.momentum, affine=plain.affine).double()
        sync_batchnorm.convert_sync_batchnorm(network, "cpu")
        assert isinstance(network[0][0], sync_batchnorm.PortableSyncBatchNorm)
        for step in range(3):
            rng = torch.Generator().manual_seed(step)
            x = torch.randn(4, 3, 5, 5, dtype=torch.float64, generator=rng)
            torch.testing.assert_close(network(x), plain(x), atol=1e-12, rtol=0)
        close(dict(network[0][0].state_dict()), dict(plain.state_dict()), 1e-12)
        torch.testing.assert_close(network.eval()(x), plain.eval()(x), atol=1e-12, rtol=0)


def test_a_gpu_gets_torchs_own_layer():
    network = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    sync_batchnorm.convert_sync_batchnorm(network, "cuda")
    assert isinstance(network[0], torch.nn.SyncBatchNorm)


def test_the_number_of_gpus_is_in_the_key_of_what_trains_and_of_nothing_else():
    def keys(**changes) -> dict[str, str]:
        plan = make_plan(parse_config({**tiny(), **changes}))
        return {f"{kind}/{name}": ref for (kind, name), ref in plan.refs_by_name.items()}

    one, two = keys(), keys(gpus=2)
    trained = {k for k in one if k.split("/")[0] in ("teacher", "discretizer", "generator")}
    assert keys(gpus=1) == one
    assert {k for k in one if one[k] == two[k]} == {"dataset/tiny"}
    raw = tiny()
    raw["teachers"]["robust"]["gpus"] = 2
    alone = keys(teachers=raw["teachers"])
    assert {k for k in trained if alone[k] != one[k]} == {"teacher/robust"}
    assert keys(run={**raw["run"], "gpus_per_evaluation": 2}) == one


@pytest.mark.parametrize(
    ("section", "name", "changes", "words"),
    [
        ("students", "rslad", {"gpus": 3}, "gpus 3 .* does not divide batch"),
        ("students", "rslad", {"gpus": 0}, "students.rslad.recipe.gpus"),
        ("students", "rslad", {"recipe": {"sync_bn": False}}, "sync_bn: means nothing to one GPU"),
        (
            "students",
            "rslad",
            {"recipe": {"gpus": 2, "compile": "eager"}},
            "compile: goes with one",
        ),
        ("generators", "derd", {"gpus": 2, "replayed": 5}, "generators.derd.replayed: 5 images"),
    ],
    ids=str,
)
def test_what_cannot_be_split_is_refused_before_any_job(section, name, changes, words):
    raw = tiny()
    raw[section][name].update(changes)
    with pytest.raises(RetortError, match=words) as refused:
        make_plan(parse_config(raw))
    assert "\n" not in str(refused.value)


def test_a_recipe_for_two_does_not_train_in_one_process(tmp_path):
    with pytest.raises(RetortError, match="recipe.gpus: 2, but 1 process trains"):
        ranked.trained(ranked.Case("natural"), tmp_path, 2)


def test_a_shell_of_its_own_is_not_taken_for_a_rank(tmp_path, monkeypatch):
    job = Job(tmp_path, "student", "s", "k", {}, {}, {})
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert torchrun.get_rank_and_world_size(job) == (0, 1)
    monkeypatch.setenv(torchrun.RANKS_VARIABLE, str(tmp_path))
    assert torchrun.get_rank_and_world_size(job) == (1, 2)


def experiment(path: Path) -> dict[str, Path]:
    """Folders of a teacher trained by two processes, its twin by one, and their evaluations."""
    raw = tiny()
    twin = {**raw["teachers"]["natural"], "epochs": 3}
    # Small steps: rounding, which differs between CPUs, then grows little over the epochs.
    raw["recipes"][twin["recipe"]]["lr"] = 0.01
    kept = {name: raw[name] for name in ("seed", "recipes", "datasets")}
    run = {**raw["run"], "checkpoint_seconds": 0, "gpus_per_evaluation": 2}
    sections = {
        "teachers": {"two": {**twin, "gpus": 2}, "one": twin},
        "suites": {"s": {"attacks": [{"clean": {"chunk": 24}}], "models": "teachers"}},
    }
    plan = make_plan(parse_config({**kept, **sections, "store": str(path / "store"), "run": run}))
    write_job_files(plan)
    return {name: plan.folder_path(ref) for (_, name), ref in plan.refs_by_name.items()}


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> dict[str, Path]:
    """The same folders with the data set, and with the twin trained in this process."""
    folders = experiment(tmp_path_factory.mktemp("launched"))
    assert main(["prepare_data", str(folders["tiny"])]) == 0
    assert main(["train_teacher", str(folders["one"])]) == 0
    return folders


def child(pid: int) -> int:
    """The last child process of a process."""
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[-1])


def test_a_dead_rank_ends_the_job_and_the_next_run_goes_on(made, tmp_path):
    teacher, folder = made["two"], Folder(tmp_path)
    process = folder.stage("train_teacher", str(teacher))
    read_until(process, "epoch 1/3")
    os.kill(child(process.pid), signal.SIGKILL)
    _, printed = process.communicate()
    assert process.returncode == 2
    last = printed.strip().splitlines()[-1]
    assert last.startswith(f"error: {teacher}: process 1 of 2 was killed by SIGKILL")
    assert not (teacher / "manifest.json").exists()
    status, printed = folder.run("train_teacher", str(teacher))
    assert status == 0, printed
    assert "resumed at epoch" in printed
    assert printed.count("epoch 3/3") == 1
    assert not [*teacher.glob("*.lock"), *teacher.glob("state")]
    assert len([*teacher.glob("attempts/*.json")]) == 2
    one, two = (load_file(made[name] / "model.safetensors") for name in ("one", "two"))
    close(one, two, 2e-3)  # single precision


def test_processes_share_the_chunks_of_an_evaluation(made, monkeypatch):
    folder = made["one.s"]
    job = read_job(folder)
    monkeypatch.setattr(torchrun, "set_up_rank_process", lambda: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv(torchrun.RANKS_VARIABLE, str(job.folder))
    for rank, left in ((0, {0, 48}), (1, {0, 24, 48})):
        monkeypatch.setenv("RANK", str(rank))
        assert main(["evaluate", str(folder)]) == 0
        assert {int(p.stem.split("-")[-1]) for p in job.state_folder.glob("*.parquet")} == left
        assert not (folder / "manifest.json").exists()
    shared = evaluate.run(job)
    for path in job.state_folder.glob("*.parquet"):
        path.unlink()
    assert evaluate.run(job) == shared


def test_the_reason_names_the_process_that_was_killed_not_those_it_took_along():
    def failure(code: int, when: int) -> SimpleNamespace:
        return SimpleNamespace(exitcode=code, timestamp=when)

    lost = {0: failure(1, 1), 1: failure(-9, 2)}
    assert torchrun.explain_failure(lost, 2).startswith(
        "process 1 of 2 was killed by SIGKILL (out of memory?)"
    )
    said = {0: failure(1, 2), 1: failure(2, 1)}
    assert torchrun.explain_failure(said, 2).startswith(
        "process 1 of 2 stopped for the reason above"
    )
