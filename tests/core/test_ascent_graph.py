"""A captured ascent against the eager one; on a CPU a trace of operators stands for a graph."""

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from pipeline.core import inner_attack
from pipeline.core.devices import ascent_graph, placement
from pipeline.core.devices.ascent_graph import AscentGraphs
from pipeline.discovery import list_plugin_names
from tests.helpers import plain, ranked

STEPS = 3
CAPTURED = ["adaad", "adaiad", "akd", "akd2", "ard", "crdnd_like", "gacd_like", "iad", "mtard"]
CAPTURED += ["pgd_at", "rslad", "trades", "absld", "b_mtard", "iad2", "saad"]


class Tracer:
    """A capture that records the operators once and repeats them, as a graph does its kernels."""

    def __init__(self):
        self.captures, self.replays = 0, 0

    def __call__(self, ascend: Callable, inputs: tuple[Tensor, ...]) -> Callable[[], Tensor]:
        self.captures += 1
        traced, result = make_fx(ascend)(*inputs), ascend(*inputs).clone()

        def replay() -> Tensor:
            self.replays += 1
            return result.copy_(traced(*inputs))

        return replay


@pytest.mark.parametrize("name", list_plugin_names("objectives"))
def test_a_training_with_captured_ascents_is_the_eager_one(name, tmp_path, monkeypatch):
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)
    recipe = {"epochs": 2, "batch": 6}  # 8 steps: one is watched, one captured, the others repeated
    eager = ranked.trained(ranked.Case(name, recipe), tmp_path / "eager", 1)
    tracer = Tracer()
    monkeypatch.setattr(
        "pipeline.training.state.make_ascent_graphs", lambda device: AscentGraphs(tracer)
    )
    case = ranked.Case(name, {**recipe, "compile": "graph"})
    found = ranked.trained(case, tmp_path / "graph", 1)
    assert (tracer.captures, tracer.replays) == ((1, 7) if name in CAPTURED else (0, 0))
    assert found.keys() == eager.keys()
    torch.testing.assert_close(found, eager, rtol=0, atol=0)


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
    graphs = AscentGraphs(tracer)
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
    graphs = AscentGraphs(tracer)
    for _ in range(3):
        attacked(graphs, loss_of, (y,))
    NETWORK.head.weight.data = NETWORK.head.weight.data.clone() * 2
    assert torch.equal(attacked(graphs, loss_of, (y,)), attacked(None, loss_of, (y,)))
    assert tracer.captures == 2


def test_numbers_of_the_host_keep_an_ascent_eager():
    tracer, y = Tracer(), torch.zeros(6, dtype=torch.int64)
    graphs = AscentGraphs(tracer)
    for step in (1.0, 2.0, -1.0):
        found = attacked(graphs, lambda z, y, s=step: torch.tensor(s) * loss_of(z, y), (y,))
        assert torch.equal(found, attacked(None, lambda z, y, s=step: s * loss_of(z, y), (y,)))
    assert tracer.captures == 0


@pytest.mark.parametrize("reads", [None, ()])
def test_a_loss_that_reads_what_it_does_not_declare_stays_eager(reads, caplog):
    tracer = Tracer()
    graphs = AscentGraphs(tracer)
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

    graphs, y = AscentGraphs(refuse), torch.zeros(6, dtype=torch.int64)
    with caplog.at_level(logging.INFO, "retort"):
        for seed in range(4):
            found = attacked(graphs, loss_of, (y,), STEPS, seed)
            assert torch.equal(found, attacked(None, loss_of, (y,), STEPS, seed))
    assert [r.message for r in caplog.records] == [
        "compile: the ascent is not captured: operation not permitted when stream is capturing; it "
        "runs eagerly"
    ]


def test_attacks_in_train_mode_are_not_captured():
    tracer = Tracer()
    batch = replace(plain.batch(), ascents=AscentGraphs(tracer))
    attack = inner_attack.InnerAttack(steps=1, attack_bn="train")
    for _ in range(3):
        inner_attack.make_adversarial_examples(
            attack, batch, loss_of, NETWORK, reads=(batch.labels,)
        )
    assert tracer.captures == 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_repeats_the_eager_ascent_on_a_card():
    network = plain.Network(1).cuda()
    graphs = AscentGraphs(ascent_graph.capture_cuda_graph)
    for seed in range(4):
        rng = torch.Generator("cuda").manual_seed(seed)
        batch = plain.batch()
        x = torch.rand(batch.x.shape, generator=rng, device="cuda", dtype=torch.float64)
        y = torch.randint(0, plain.CLASSES, (6,), generator=rng, device="cuda")
        found = []
        for ascents in (graphs, None):
            same = torch.Generator("cuda").manual_seed(seed)
            found.append(
                inner_attack.make_adversarial_examples(
                    inner_attack.InnerAttack(steps=STEPS),
                    replace(batch, x=x, y=y, rng=same, ascents=ascents),
                    lambda z, y: plain.ce(network(z), y),
                    network,
                    reads=(y,),
                )
            )
        assert torch.equal(*found)
    (captured,) = graphs.made.values()
    assert captured is not None
