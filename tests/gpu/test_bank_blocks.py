"""A bank's blocks in flight on the device: no launch waits, and what is read late is right."""

from pathlib import Path

import pytest
import torch

from pipeline.core.devices import placement
from pipeline.core.seeding import make_generator
from pipeline.data.splits import Split
from pipeline.models.classifier import initialise_classifier
from pipeline.store.artefact import Job
from tests.gpu.device import DEVICE, needs_device
from tests.gpu.test_step_graphs import refused_reads
from tests.helpers.plain import assert_same_arrays

# A bank needs webdataset and taming, which a bare machine may lack.
builder = pytest.importorskip("pipeline.banks.builder", exc_type=ImportError)
vqgan = pytest.importorskip("pipeline.models.vqgan", exc_type=ImportError)

pytestmark = [pytest.mark.gpu, needs_device]
ROWS, BLOCK, CLASSES = 96, 32, 10
ATTACK = {"norm": "linf", "eps": 8 / 255, "step": 2 / 255, "steps": 3, "start_probability": 1.0}
TOP = {"top_k": 3, "temperature": 4.0, "clean": True, "classes": CLASSES}
QUANTIZER = {"ch": 32, "ch_mult": (1,), "num_res_blocks": 0, "attn_resolutions": (), "n_codes": 32}
QUANTIZER |= {"resolution": 32, "unshuffle": 2, "mid_attention": False}


def builder_of(inputs: tuple[str, ...], **form) -> builder.BankBuilder:
    """A builder over random images whose labels are the teacher's guesses but for every fifth."""
    spec = {"seed": 0, "device": DEVICE, "attack": ATTACK, "reject": "drop", "shards": 1}
    spec |= {"block": BLOCK, **form}
    made = builder.BankBuilder(
        Job(Path(), "bank", "b", "k", spec, dict.fromkeys(inputs, Path()), {})
    )
    teacher = initialise_classifier("resnet8-s2-w8", CLASSES, (0.5,) * 3, (0.25,) * 3, 0)
    teacher = vars(made)["teacher"] = teacher.to(DEVICE).eval().requires_grad_(False)
    draws = make_generator("blocks in flight")
    images = torch.randint(0, 256, (ROWS, 3, 32, 32), generator=draws, dtype=torch.uint8)
    guesses = teacher(images.to(DEVICE) / 255).argmax(1).cpu()
    vars(made)["split"] = Split(images, (guesses + (torch.arange(ROWS) % 5 == 4)) % CLASSES)
    if "discretizer" in inputs:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            quantizer = vqgan.VQGAN(vqgan.VQGANArchitecture(**QUANTIZER))
        vars(made)["discretizer"] = quantizer.to(DEVICE).eval().requires_grad_(False)
    return made


@pytest.mark.parametrize("form", [{}, {"encoding": "png"}, {"outputs": TOP}], ids=str)
@pytest.mark.parametrize("inputs", [(), ("discretizer",)], ids=["pixels", "Q"])
def test_blocks_in_flight_wait_for_nothing_and_hold_what_plain_ones_do(inputs, form, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)
    made = builder_of(inputs, **form)
    rows = [range(start, start + BLOCK) for start in range(0, ROWS, BLOCK)]
    plain = [made.build_block(part, False) for part in rows]  # it also warms what may wait once
    with refused_reads():
        launched = [made.launch_block(part, False) for part in rows]
    for block, (expected, numbers) in zip(launched, plain, strict=True):
        arrays, counts = block.fetch()
        assert_same_arrays(arrays, expected)
        assert counts == numbers
    assert 0 < sum(numbers["accepted"] for _, numbers in plain) < ROWS
