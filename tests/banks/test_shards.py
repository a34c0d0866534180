"""Banks: the same bytes however they are built, and every damage is found."""

import json
import os
import signal

import numpy as np
import pytest
import torch

from pipeline.banks.launched import LaunchedBlock
from pipeline.banks.reader import read_bank
from pipeline.banks.shards import (
    DEFAULT_SPEC,
    Block,
    ShardLayout,
    is_whole,
    list_fields,
    read_shard,
    shard_name,
    sidecar_path,
    write_shard,
)
from pipeline.config.specs import dump_spec, get_spec
from pipeline.core import topk_logits
from pipeline.core.seeding import make_generator
from pipeline.errors import RetortError
from pipeline.stages import build_bank
from pipeline.store import artefact
from pipeline.store.artefact import JOB_FILE, Job, read_job, write_json, write_manifest
from tests.helpers.specs import bank_spec

ROWS, SHARDS, BLOCK = 21, 4, 2
KEY = "0123456789ab"
LAYOUT = ShardLayout(ROWS, SHARDS, BLOCK)


def block_of(rows: range, keep: bool = True) -> tuple[Block, dict]:
    """A block whose numbers are drawn from its rows; every third row is rejected."""
    draws = [make_generator("test", row) for row in rows]
    accepted = np.array([keep and row % 3 != 2 for row in rows])
    logits = torch.stack([torch.randn(5, generator=g) for g in draws]).numpy()
    images = torch.stack([torch.randint(0, 256, (3, 4, 4), generator=g) for g in draws]).numpy()
    block = {
        "row": np.arange(rows.start, rows.stop),
        "label": np.array([row % 5 for row in rows], dtype=np.int16),
        "accepted": accepted,
        "t_clean": logits.astype(np.float16),
        "x_adv": images[accepted].astype(np.uint8),
        "t_adv": -logits[accepted].astype(np.float16),
        "flips": np.full(accepted.sum(), 0.5, dtype=np.float16),
    }
    return block, {"rows": len(rows), "accepted": int(accepted.sum())}


class Fake:
    """A BankBuilder without models; it records its rows and may fail at one."""

    made: list[range] = []
    before = staticmethod(lambda rows: None)

    def __init__(self, job: Job) -> None:
        self.job, self.layout, self.spec = job, LAYOUT, get_spec(job)

    def launch_block(self, rows: range, first: bool) -> LaunchedBlock:
        Fake.before(rows)
        Fake.made.append(rows)
        block, counts = block_of(rows)
        return LaunchedBlock(block, {}, counts)


@pytest.fixture(autouse=True)
def fake(monkeypatch):
    """Replace the builder, and forget verified files, since these tests alter files."""
    monkeypatch.setattr(build_bank, "BankBuilder", Fake)
    monkeypatch.setattr(Fake, "made", [])
    artefact.verify.cache_clear()


def job_in(folder) -> Job:
    """The job of a bank in a store of its own."""
    folder = folder / "bank" / KEY
    order = {"kind": "bank", "name": "dad", "key": KEY, "inputs": {}, "code": {}}
    write_json(
        folder / JOB_FILE,
        {**order, "spec": {"shards": SHARDS, **dump_spec(DEFAULT_SPEC)}, "run": {}},
    )
    return read_job(folder)


def finished(job: Job) -> Job:
    """Build all shards and the manifest."""
    build_bank.run_group(job, range(SHARDS))
    write_manifest(job, job.build_manifest([shard_name(i) for i in range(SHARDS)], {}))
    return job


def content(job: Job) -> dict[str, bytes]:
    """The bytes of every shard and sidecar."""
    return {p.name: p.read_bytes() for p in sorted(job.folder.glob("shard-*"))}


def rows_of(*shards: int) -> list[range]:
    """The row ranges of the shards' blocks, in order."""
    return [LAYOUT.get_block_rows(b) for shard in shards for b in LAYOUT.get_shard_blocks(shard)]


@pytest.mark.parametrize("rows", [1, 7, 64, 129])
@pytest.mark.parametrize("shards", [1, 3, 8])
@pytest.mark.parametrize("block", [1, 16, 200])
def test_a_layout_covers_every_row_once_in_order(rows, shards, block):
    layout = ShardLayout(rows, shards, block)
    blocks = [b for shard in range(shards) for b in layout.get_shard_blocks(shard)]
    assert blocks == list(range(layout.block_count))
    assert [row for b in blocks for row in layout.get_block_rows(b)] == list(range(rows))


def test_a_bank_comes_back(tmp_path):
    bank = read_bank(finished(job_in(tmp_path)).folder)
    expected, _ = block_of(range(ROWS))
    assert bank.fields["row"].tolist() == [row for row in range(ROWS) if row % 3 != 2]
    for name in ("label", "t_clean", "x_adv", "t_adv"):
        found = bank.fields[name].numpy()
        assert found.dtype == expected[name].dtype
        np.testing.assert_array_equal(found, expected[name])
    rows = [sum(map(len, rows_of(shard))) for shard in range(SHARDS)]
    assert np.diff(bank.row_starts).tolist() == rows
    assert bank.sample_starts[-1] == len(bank.fields["row"])


def test_a_shard_holds_its_blocks_and_its_counts(tmp_path):
    job = finished(job_in(tmp_path))
    path = job.folder / shard_name(1)
    for found, rows in zip(read_shard(path), rows_of(1), strict=True):
        expected, _ = block_of(rows)
        assert set(found) == set(list_fields(DEFAULT_SPEC))
        for name in found:
            np.testing.assert_array_equal(found[name], expected[name])
    counts = json.loads(sidecar_path(path).read_text())["counts"]
    accepted = sum(row % 3 != 2 for rows in rows_of(1) for row in rows)
    assert counts == {"rows": sum(map(len, rows_of(1))), "accepted": accepted}


@pytest.mark.parametrize("groups", [[(2, 4), (0, 2)], [(3, 4), (0, 1), (1, 3)], [(1, 3), (0, 4)]])
def test_the_grouping_does_not_change_a_byte(groups, tmp_path):
    job, other = job_in(tmp_path / "one"), job_in(tmp_path / "other")
    build_bank.run_group(job, range(SHARDS))
    for first, stop in groups:
        build_bank.run_group(other, range(first, stop))
    assert content(job) == content(other)
    assert len(content(job)) == 2 * SHARDS


def test_finished_shards_are_left_alone(tmp_path):
    job = job_in(tmp_path)
    build_bank.run_group(job, range(2))
    Fake.made.clear()
    build_bank.run_group(job, range(SHARDS))
    assert Fake.made == rows_of(2, 3)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_a_death_within_a_shard_costs_that_shard(shard, tmp_path, monkeypatch):
    job, whole_one = job_in(tmp_path / "one"), job_in(tmp_path / "other")
    last = rows_of(shard)[-1]

    def die(rows: range) -> None:
        if rows == last:
            raise MemoryError

    monkeypatch.setattr(Fake, "before", staticmethod(die))
    with pytest.raises(MemoryError):
        build_bank.run_group(job, range(SHARDS))
    assert len(content(job)) == 2 * shard
    monkeypatch.setattr(Fake, "before", staticmethod(lambda rows: None))
    Fake.made.clear()
    build_bank.run_group(job, range(SHARDS))
    assert Fake.made == rows_of(*range(shard, SHARDS))
    build_bank.run_group(whole_one, range(SHARDS))
    assert content(job) == content(whole_one)


def test_sigterm_ends_before_the_next_block_and_keeps_finished_shards(tmp_path, monkeypatch):
    job, first = job_in(tmp_path), rows_of(1)[0]

    def asked(rows: range) -> None:
        if rows == first:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Fake, "before", staticmethod(asked))
    with pytest.raises(SystemExit) as stop:
        build_bank.run_group(job, range(SHARDS))
    assert stop.value.code == 128 + signal.SIGTERM
    assert Fake.made == [*rows_of(0), first]
    assert set(content(job)) == {"shard-00000.tar", "shard-00000.json"}


def cut(data: bytes) -> bytes:
    return data[:-600]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


@pytest.mark.parametrize("damage", [cut, flip])
def test_a_damaged_shard_is_found_and_it_alone_is_made_again(damage, tmp_path):
    job = finished(job_in(tmp_path))
    before, path = content(job), job.folder / shard_name(2)
    path.write_bytes(damage(before[path.name]))
    assert not is_whole(path, KEY)
    with pytest.raises(RetortError, match=r"shard-00002\.tar: does not match"):
        read_bank(job.folder)
    Fake.made.clear()
    build_bank.run_group(job, range(SHARDS))
    assert Fake.made == rows_of(2)
    assert content(job) == before


@pytest.mark.parametrize("name", ["shard-00001.tar", "shard-00001.json"])
def test_a_shard_without_its_other_half_is_not_whole(name, tmp_path):
    job = finished(job_in(tmp_path))
    before = content(job)
    (job.folder / name).unlink()
    assert not is_whole(job.folder / shard_name(1), KEY)
    build_bank.run_group(job, range(SHARDS))
    assert content(job) == before


def test_a_missing_manifest_or_shard_is_named(tmp_path):
    job = job_in(tmp_path)
    build_bank.run_group(job, range(SHARDS))
    with pytest.raises(RetortError, match=r"manifest\.json: is missing"):
        read_bank(job.folder)
    finished(job)
    (job.folder / shard_name(3)).unlink()
    with pytest.raises(RetortError, match=r"shard-00003\.tar: is missing"):
        read_bank(job.folder)


def test_a_bank_without_one_accepted_sample_says_what_to_do(tmp_path):
    job = job_in(tmp_path)
    parts = [LAYOUT.get_shard_blocks(shard) for shard in range(SHARDS)]
    for shard, numbers in enumerate(parts):
        blocks = [(n, *block_of(LAYOUT.get_block_rows(n), keep=False)) for n in numbers]
        write_shard(job.folder / shard_name(shard), iter(blocks), DEFAULT_SPEC, KEY)
    write_manifest(job, job.build_manifest([shard_name(i) for i in range(SHARDS)], {}))
    with pytest.raises(RetortError, match="no sample was accepted; lower"):
        read_bank(job.folder)


@pytest.mark.parametrize("change", [{"label": np.zeros(4)}, {"extra": np.zeros(4)}])
def test_fields_must_be_the_declared_ones(change, tmp_path):
    block, counts = block_of(range(4))
    path = tmp_path / shard_name(0)
    with pytest.raises(RetortError, match="declared are"):
        write_shard(path, iter([(0, block | change, counts)]))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("shards", [range(3, 5), range(2, 2), range(-1, 1)])
def test_ranges_that_are_not_of_the_bank(shards, tmp_path):
    with pytest.raises(RetortError, match="the bank has 4 shards"):
        build_bank.run_group(job_in(tmp_path), shards)


def test_a_sample_of_tokens_at_224_px_takes_at_most_1700_bytes_and_its_outputs(tmp_path):
    """28x28 tokens of 16384 codes, ten logits of a thousand on image and sample."""
    outputs = {"top_k": 10, "temperature": 4.0, "clean": True, "classes": 1000}
    spec = bank_spec(reject="drop", encoding="tokens", outputs=outputs)
    rng, size = np.random.default_rng(0), 128

    def tokens_of(rows: range) -> tuple[Block, dict]:
        block, counts = block_of(rows)
        block["accepted"] = np.ones(size, bool)
        block["flips"] = np.zeros(size, np.float16)
        block["tokens"] = rng.integers(0, 16384, (size, 28, 28)).astype(np.min_scalar_type(16383))
        for name in ("t_clean", "t_adv"):
            packs = topk_logits.pack_logits(torch.randn(size, 1000), 10, 4.0)
            block |= {f"{name}_{part}": array for part, array in packs.items()}
            del block[name]
        del block["x_adv"]
        return block, counts

    blocks = ((n, *tokens_of(range(n * size, (n + 1) * size))) for n in range(2))
    write_shard(tmp_path / shard_name(0), blocks, spec, KEY)
    per_sample = ((tmp_path / shard_name(0)).stat().st_size - 10240) / (2 * size)
    assert per_sample <= 1700 + 2 * (10 * (2 + 2) + 2)
