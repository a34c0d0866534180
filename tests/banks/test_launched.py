"""Blocks in flight: what the host waits for, counted on a CPU that counts as an accelerator.

The reads of the thread that launches are noted; those of the threads that fetch delay no launch.
"""

from collections.abc import Iterator
from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.banks import launched as launched_blocks
from pipeline.banks.builder import BankBuilder
from pipeline.banks.launched import LaunchedBlock, start_copies
from pipeline.banks.shards import DEFAULT_SPEC
from pipeline.banks.view_outputs import launch_view_outputs
from pipeline.core.devices import placement
from pipeline.data.splits import Split
from pipeline.interrupts import StopRequest
from pipeline.stages import build_bank
from pipeline.stages.build_bank import ENCODED_AHEAD, encode_ahead, finish_ahead, launch_blocks
from pipeline.store.artefact import Job
from tests.banks.test_forms import TOP, VIEWS
from tests.helpers import bank_store
from tests.helpers.bank_store import BASE, SAMPLES, images, labels, shards_of, store_in
from tests.helpers.host_reads import noted
from tests.helpers.plain import assert_same_arrays

PATIENCE = 20  # seconds until a thread that should have been let go on gives up
PGD = {"norm": "linf", "eps": 8 / 255, "step": 2 / 255, "steps": 2, "start_probability": 1.0}
Q, PIXELS = ("discretizer",), {**BASE, "attack": PGD}
JUDGED_AGAIN, ENCODED = "nonzero at banks/builder.py", "cpu at banks/image_codec.py"
OF_THE_HOST = {"tolist at banks/builder.py", "nonzero at banks/generated.py"}

CASES = {  # inputs, spec, what is read before the next block is launched
    "drop": (Q, SAMPLES, set()),
    "Q(x)": (Q, {**SAMPLES, "attack": None, "reject": "keep"}, set()),
    "tokens": (Q, {**SAMPLES, "encoding": "tokens"}, set()),
    "png": (Q, {**SAMPLES, "encoding": "png"}, set()),
    "top k": (Q, {**SAMPLES, "outputs": TOP}, set()),
    "bf16": (Q, {**SAMPLES, "bf16": True}, set()),
    "pixels, drop": ((), {**PIXELS, "reject": "drop"}, set()),
    "pixels, none": ((), {**PIXELS, "reject": "none"}, set()),
    "pixels, l2": ((), {**PIXELS, "attack": {**PGD, "norm": "l2"}, "reject": "drop"}, set()),
    "outputs alone": ((), BASE, set()),
    "generated": (("images",), {**BASE, "reject": "drop"}, OF_THE_HOST),
    "keep": (Q, {**SAMPLES, "reject": "keep"}, {JUDGED_AGAIN}),
    "pixels, keep": ((), {**PIXELS, "reject": "keep"}, {JUDGED_AGAIN}),
    "jpeg": (Q, {**SAMPLES, "encoding": "jpeg"}, {ENCODED}),
}


@pytest.fixture
def accelerated(monkeypatch) -> None:
    """The CPU counts as an accelerator."""
    monkeypatch.setattr(placement, "is_accelerator", lambda device: True)


def builder_of(name: str, **changes) -> BankBuilder:
    """A builder of one shard of a case's bank, with its networks and images in memory."""
    inputs, spec, _ = CASES[name]
    spec = {**spec, "shards": 1, **changes}
    made = BankBuilder(Job(Path(), "bank", "b", "k", spec, dict.fromkeys(inputs, Path()), {}))
    split = Split(images(), labels())
    vars(made).update(teacher=bank_store.teacher(), discretizer=bank_store.quantiser())
    vars(made).update(split=split, generated=split)
    return made


def launch_shard(made: BankBuilder) -> Iterator[tuple[int, LaunchedBlock]]:
    """The shard's blocks as the stage launches them."""
    return launch_blocks(made, 0, StopRequest())


def places(found: list[str]) -> set[str]:
    """What was read and in which file; pictures may be encoded in this thread or in others."""
    files = {place.rpartition(":")[0] for place in found}
    return files - {"numpy at banks/image_codec.py"}


@pytest.mark.parametrize("name", CASES)
def test_what_is_read_while_a_shard_is_launched(name, accelerated):
    made, found = builder_of(name), []
    with noted(found):
        blocks = list(encode_ahead(launch_shard(made), made.spec))
    assert [number for number, _, _ in blocks] == list(range(6))
    assert places(found) == CASES[name][2]


@pytest.mark.parametrize("name", ["drop", "top k", "outputs alone"])
def test_outputs_on_views_wait_for_the_whole_shard_alone(name, accelerated):
    made, found = builder_of(name, views=VIEWS), []
    with noted(found):
        shard = list(finish_ahead(launch_shard(made), LaunchedBlock.fetch))
        blocks = list(encode_ahead(launch_view_outputs(made, shard), made.spec))
    assert len(blocks) == 6
    assert places(found) <= {"numpy at banks/stored_views.py"}  # of indices on the host


@pytest.mark.parametrize("name", CASES)
def test_blocks_that_are_fetched_late_are_the_same_to_the_last_bit(name, accelerated):
    made = builder_of(name)
    rows = [made.layout.get_block_rows(number) for number in range(made.layout.block_count)]
    launched = dict(launch_shard(made))
    for number, block in sorted(launched.items(), reverse=True):
        arrays, counts = block.fetch()
        expected, numbers = made.build_block(rows[number], number == 0)
        assert_same_arrays(arrays, expected)
        assert counts == numbers
        assert {type(value) for value in counts.values()} <= {int, float}


class Arrival:
    """Stands for the end of a block's copies: waits for an event, then tells another."""

    def __init__(self, awaited: Event, told: Event):
        self.awaited, self.told = awaited, told

    def synchronize(self) -> None:
        assert self.awaited.wait(PATIENCE)
        self.told.set()


def test_the_next_blocks_are_launched_while_the_first_is_on_its_way():
    """Each block arrives once two more are launched; the first after the second."""
    launches, arrivals = ([Event() for _ in range(9)] for _ in range(2))
    awaited = [arrivals[1], launches[2], *launches[2 + ENCODED_AHEAD :], *launches[-1:] * 2]

    def launch() -> Iterator[tuple[int, LaunchedBlock]]:
        for number, started in enumerate(launches):
            started.set()
            arrival = Arrival(awaited[number], arrivals[number])
            yield number, LaunchedBlock({"row": np.full(3, number)}, {}, {}, arrived=arrival)

    numbers = [(n, b["row"].tolist()) for n, b, _ in finish_ahead(launch(), LaunchedBlock.fetch)]
    assert numbers == [(n, [n] * 3) for n in range(9)]


def test_nothing_is_read_before_it_has_arrived():
    fields = {"label": torch.zeros(4, dtype=torch.int64), "accepted": torch.zeros(4).bool()}
    samples = {"flips": torch.zeros(4), "t_adv": torch.zeros(4, 2), "files": [b"0", b"1", b"2"]}
    counts = {"rows": 4, "accepted": torch.tensor(0), "flips": torch.tensor(0.0)}

    class Filling:
        def synchronize(self) -> None:
            fields["label"].copy_(torch.arange(4))
            fields["accepted"][1:3] = True
            samples["flips"].copy_(torch.tensor([0.1, 0.25, 0.5, 0.7]))
            samples["t_adv"].fill_(3.0)
            counts["accepted"].fill_(2)
            counts["flips"].fill_(1.5)

    block, found = LaunchedBlock(
        fields, samples, counts, DEFAULT_SPEC.outputs, arrived=Filling()
    ).fetch()
    assert found == {"rows": 4, "accepted": 2, "flips": 1.5}
    expected = {
        "label": np.arange(4, dtype=np.int16),
        "accepted": np.array([False, True, True, False]),
        "flips": np.array([0.25, 0.5], dtype=np.float16),
        "t_adv": np.full((2, 2), 3.0, dtype=np.float16),
        "files": [b"1", b"2"],
    }
    assert_same_arrays(block, expected)


def test_a_fault_of_a_thread_ends_the_shard_and_the_next_run_makes_it(tmp_path, monkeypatch):
    store = store_in(tmp_path)
    whole, job = store.made("whole", **SAMPLES), store.bank(**SAMPLES)
    launch, started = BankBuilder.launch_block, []

    class Lost:
        def synchronize(self) -> None:
            raise RuntimeError("the device is lost")

    def fail_once(self, rows, is_first):
        started.append(rows.start)
        made = launch(self, rows, is_first)
        return LaunchedBlock(made.fields, {}, {}, arrived=Lost()) if rows.start == 24 else made

    monkeypatch.setattr(BankBuilder, "launch_block", fail_once)
    with pytest.raises(RuntimeError, match="the device is lost"):
        build_bank.run(job)
    assert started == [0, 8, 16, 24]  # of 44 rows
    assert [p.name for p in sorted(job.folder.glob("shard-*"))] == [
        "shard-00000.json",
        "shard-00000.tar",
    ]
    monkeypatch.setattr(BankBuilder, "launch_block", launch)
    build_bank.run(job)
    assert shards_of(job) == shards_of(whole)


@pytest.mark.parametrize("top_k", [0, 2])
def test_all_that_is_stored_is_on_its_way_before_the_event(top_k, monkeypatch):
    """Outputs whose top k are stored stay on the device."""
    queued: list[Tensor | str] = []

    def copy(x: Tensor) -> Tensor:
        queued.append(x)
        return x

    monkeypatch.setattr(launched_blocks, "copy_to_host", copy)
    monkeypatch.setattr(launched_blocks, "record_event", queued.append)
    kept, flips, outputs = torch.ones(4).bool(), torch.zeros(4), torch.zeros(4, 5)
    form = DEFAULT_SPEC.outputs.model_copy(update={"top_k": top_k})
    fields = {"row": np.arange(4), "accepted": kept, "t_clean": outputs}
    samples = {"flips": flips, "t_adv": outputs, "files": [b""] * 4}
    total = torch.tensor(1.5)
    start_copies(LaunchedBlock(fields, samples, {"rows": 4, "flips": total}, form), "the card")
    expected = [kept, flips, total] if top_k else [kept, outputs, flips, outputs, total]
    assert [id(x) for x in queued[:-1]] == [id(x) for x in expected]
    assert queued[-1] == "the card"
