"""Captured ascents against eager ones; on a CPU a trace of operators stands for a graph."""

import logging
import re
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pipeline.core import inner_attack
from pipeline.core.devices import placement
from pipeline.core.devices.ascent_graph import AscentGraphs
from pipeline.discovery import list_plugin_names, load_plugin
from pipeline.schema import list_options
from tests.helpers import plain, ranked
from tests.helpers.graph import ROOT
from tests.helpers.recorded import Tracer, record_steps

STEPS = 3
GUIDE = ROOT / "docs" / "howto" / "gpus.md"
NO_SHARED_FORWARDS = ("darwin", "darwin_lf")  # which attack in train mode by forwards of the update


def read_counts() -> dict[str, int]:
    """Captured ascents of a step for each objective, by the guide's table."""
    rows = re.findall(r"^\| (`[^|]*) \| (\d) *\|", GUIDE.read_text(), re.MULTILINE)
    return {name: int(count) for names, count in rows for name in re.findall(r"`(\w+)`", names)}


def assert_captured_as_eager(
    name: str, count: int, folder, monkeypatch, igdm: float = 0.0, **options
) -> None:
    """A training with so many captured ascents a step, and captured passes, against eager ones."""
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)
    known = list_options(load_plugin("objectives", name).Objective)
    asked = {"attack": "rslad"} | options
    own = ranked.OPTIONS | {key: value for key, value in asked.items() if key in known}
    monkeypatch.setattr(ranked, "OPTIONS", own)
    recipe = {"epochs": 2, "batch": 6}  # 8 steps: one is watched, one captured, the others repeated
    eager = ranked.trained(ranked.Case(name, recipe, igdm=igdm), folder / "eager", 1)
    tracer, passes = record_steps(monkeypatch)
    case = ranked.Case(name, {**recipe, "compile": "graph"}, igdm=igdm)
    found = ranked.trained(case, folder / "graph", 1)
    assert (tracer.captures, tracer.replays) == (count, 7 * count)
    assert passes.forwards >= 7
    assert found.keys() == eager.keys()
    torch.testing.assert_close(found, eager, rtol=0, atol=0)


@pytest.mark.parametrize("name", list_plugin_names("objectives"))
def test_a_training_with_captured_ascents_is_the_eager_one(name, tmp_path, monkeypatch):
    assert_captured_as_eager(name, read_counts()[name], tmp_path, monkeypatch)


@pytest.mark.parametrize("name", ["dat", "pgd_at", *NO_SHARED_FORWARDS])
def test_attacks_in_train_mode_are_captured_with_their_statistics(name, tmp_path, monkeypatch):
    count = 0 if name in NO_SHARED_FORWARDS else 1
    assert_captured_as_eager(name, count, tmp_path, monkeypatch, attack_bn="train")


@pytest.mark.parametrize("name", ["adaad", "rslad"])
def test_a_base_with_igdm_is_captured_as_it_is_without(name, tmp_path, monkeypatch):
    assert_captured_as_eager(name, read_counts()[name], tmp_path, monkeypatch, igdm=20.0)


def test_attacks_alone_are_counted_in_the_guide():
    assert read_counts().keys() == set(list_plugin_names("objectives"))


def attacked(graphs: AscentGraphs | None, loss, reads, steps: int = STEPS, seed: int = 3) -> Tensor:
    """x* of plain networks' batch, whose labels and images depend on the seed."""
    student = NETWORK
    batch = replace(plain.batch(), ascents=graphs)
    x = torch.rand(batch.x.shape, generator=torch.Generator().manual_seed(seed)).double()
    attack = inner_attack.InnerAttack(steps=steps)
    return inner_attack.make_adversarial_examples(
        attack, replace(batch, x=x), loss, student, reads=reads
    )


NETWORK = plain.Network(1)


def loss_of(z: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of the network."""
    return plain.ce(NETWORK(z), y)


def test_each_form_is_watched_captured_and_repeated_with_fresh_inputs_and_weights():
    tracer = Tracer()
    graphs = AscentGraphs(capture=tracer)
    for seed in range(4):
        for count in (STEPS, 2):
            y = torch.randint(0, plain.CLASSES, (6,), generator=torch.Generator().manual_seed(seed))
            found = attacked(graphs, loss_of, (y,), count, seed)
            assert torch.equal(found, attacked(None, loss_of, (y,), count, seed))
        with torch.no_grad():
            NETWORK.head.weight.mul_(-1)
    assert (tracer.captures, tracer.replays) == (2, 6)


def test_weights_that_moved_are_captured_anew():
    tracer, y = Tracer(), torch.zeros(6, dtype=torch.int64)
    graphs = AscentGraphs(capture=tracer)
    for _ in range(3):
        attacked(graphs, loss_of, (y,))
    NETWORK.head.weight.data = NETWORK.head.weight.data.clone() * 2
    assert torch.equal(attacked(graphs, loss_of, (y,)), attacked(None, loss_of, (y,)))
    assert tracer.captures == 2


def test_numbers_of_the_host_keep_an_ascent_eager():
    tracer, y = Tracer(), torch.zeros(6, dtype=torch.int64)
    graphs = AscentGraphs(capture=tracer)
    for step in (1.0, 2.0, -1.0):
        found = attacked(graphs, lambda z, y, s=step: torch.tensor(s) * loss_of(z, y), (y,))
        assert torch.equal(found, attacked(None, lambda z, y, s=step: s * loss_of(z, y), (y,)))
    assert tracer.captures == 0


@pytest.mark.parametrize("reads", [None, ()])
def test_a_loss_that_reads_what_it_does_not_declare_stays_eager(reads, caplog):
    tracer = Tracer()
    graphs = AscentGraphs(capture=tracer)
    with caplog.at_level(logging.INFO, "retort"):
        for seed in range(3):
            y = torch.full((6,), seed)
            found = attacked(graphs, lambda z, y=y: loss_of(z, y), reads)
            assert torch.equal(found, attacked(None, loss_of, (y,)))
    assert tracer.captures == 0
    told = [r.message for r in caplog.records]
    assert len(told) == (reads is not None)
    assert all("reads a tensor (6,) that is not declared; it runs eagerly" in t for t in told)


def test_what_cannot_be_captured_runs_eagerly_with_one_line(caplog):
    def refuse(ascend, inputs):
        raise RuntimeError("operation not permitted when stream is capturing\nmore")

    graphs, y = AscentGraphs(capture=refuse), torch.zeros(6, dtype=torch.int64)
    with caplog.at_level(logging.INFO, "retort"):
        for seed in range(4):
            found = attacked(graphs, loss_of, (y,), STEPS, seed)
            assert torch.equal(found, attacked(None, loss_of, (y,), STEPS, seed))
    assert [r.message for r in caplog.records] == [
        "compile: the ascent is not captured: operation not permitted when stream is capturing; it "
        "runs eagerly"
    ]


def test_networks_that_draw_random_numbers_stay_eager(caplog):
    tracer, network = Tracer(), nn.Sequential(plain.Network(1), nn.Dropout(0.5)).train()
    batch = replace(plain.batch(), ascents=AscentGraphs(capture=tracer))
    attack = inner_attack.InnerAttack(steps=1, attack_bn="train")
    with caplog.at_level(logging.INFO, "retort"):
        for _ in range(3):
            inner_attack.make_adversarial_examples(
                attack, batch, lambda z, y: plain.ce(network(z), y), network, reads=(batch.labels,)
            )
    assert tracer.captures == 0
    assert caplog.messages == [
        "compile: the ascent is not captured: it draws random numbers; it runs eagerly"
    ]


def test_ascents_of_two_losses_are_two_graphs():
    tracer, y = Tracer(), torch.zeros(6, dtype=torch.int64)
    graphs = AscentGraphs(capture=tracer)
    for _ in range(3):
        for loss in (loss_of, lambda z, y: -loss_of(z, y)):
            assert torch.equal(attacked(graphs, loss, (y,)), attacked(None, loss, (y,)))
    assert tracer.captures == 2


def test_numbers_and_partials_in_a_loss_tell_it_apart():
    y = torch.zeros(6, dtype=torch.int64)
    makers = (
        lambda factor: lambda z, y: factor * loss_of(z, y),
        lambda factor: partial(lambda z, y, by: by * loss_of(z, y), by=factor),
    )
    for make in makers:
        tracer = Tracer()
        graphs = AscentGraphs(capture=tracer)
        for _ in range(3):
            for factor in (1.0, -1.0):
                found = attacked(graphs, make(factor), (y,))
                assert torch.equal(found, attacked(None, make(factor), (y,)))
        assert tracer.captures == 2


def test_two_losses_against_one_target_are_two_graphs():
    tracer, batch = Tracer(), plain.batch()
    student = nn.Sequential(NETWORK)
    attack = inner_attack.InnerAttack(steps=2, start="clean")
    found = []
    for graphs in (None, AscentGraphs(capture=tracer)):
        for _ in range(3):
            for loss in (plain.ce, lambda z, y: -plain.ce(z, y)):
                asked = replace(batch, ascents=graphs)
                x_adv = inner_attack.make_examples_against(
                    attack, asked, student, loss, batch.labels
                )
                found.append(x_adv)
    assert all(map(torch.equal, found[:6], found[6:]))
    assert not torch.equal(found[0], found[1])
    assert tracer.captures == 2


def test_statistics_are_those_of_the_replays_alone_where_a_capture_fails():
    def refuse(ascend, inputs):
        ascend(*inputs)
        raise RuntimeError("no")

    network, found = nn.BatchNorm2d(3).double(), []
    for graphs in (None, AscentGraphs(capture=refuse)):
        network.reset_running_stats()
        batch = replace(plain.batch(), ascents=graphs)
        attack = inner_attack.InnerAttack(steps=2, attack_bn="train")
        for _ in range(3):
            inner_attack.make_adversarial_examples(
                attack, batch, lambda z: network(z).sum((1, 2, 3)), network, reads=()
            )
        found.append([buffer.clone() for buffer in network.buffers()])
    assert all(map(torch.equal, *found))
    assert found[0][2] == 6
