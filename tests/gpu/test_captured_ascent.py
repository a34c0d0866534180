"""An ascent that is captured as a CUDA graph beside an eager one; a CPU captures nothing."""

from dataclasses import replace

import pytest
import torch

from pipeline.core import inner_attack
from pipeline.core.devices import ascent_graph
from tests.helpers import plain

STEPS = 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_graph_repeats_the_eager_ascent_on_a_card():
    network = plain.Network(1).cuda()
    graphs = ascent_graph.AscentGraphs(capture=ascent_graph.capture_cuda_graph)
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
