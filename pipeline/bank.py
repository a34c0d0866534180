"""Banks on disk: WebDataset shards of row blocks, a sidecar each, one manifest over all.

A block holds, for its R source rows, ``row`` (R,) int64, ``label`` (R,) int16, ``accepted`` (R,)
bool and ``t_clean`` (R,K) float16; for its A accepted ones ``x_adv`` (A,C,H,W) uint8, ``t_adv``
(A,K) float16 and ``flips`` (A,) float16, the share of tokens that differ from the image's own.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import webdataset
from torch import Tensor
from webdataset.tariterators import group_by_keys, tar_file_expander

from pipeline.artifact import describe, open_artifact, read_json, replacing, sha256_of, write_json
from pipeline.errors import RetortError

REVISION = 1

FIELDS = {
    "row": np.int64,
    "label": np.int16,
    "accepted": np.bool_,
    "t_clean": np.float16,
    "x_adv": np.uint8,
    "t_adv": np.float16,
    "flips": np.float16,
}
Block = dict[str, np.ndarray]


@dataclass(frozen=True)
class Layout:
    """How source rows fall into blocks and blocks into shards; independent of jobs."""

    rows: int
    shards: int
    block: int

    @property
    def blocks(self) -> int:
        """Number of row blocks; the last one may be short."""
        return -(-self.rows // self.block)

    def blocks_of(self, shard: int) -> range:
        """Blocks of a shard."""
        return range(shard * self.blocks // self.shards, (shard + 1) * self.blocks // self.shards)

    def rows_of(self, block: int) -> range:
        """Source rows of a block."""
        return range(block * self.block, min((block + 1) * self.block, self.rows))


def shard_name(shard: int) -> str:
    """File name of a shard."""
    return f"shard-{shard:05d}.tar"


def sidecar_of(path: Path) -> Path:
    """The small file that says a shard is whole."""
    return path.with_suffix(".json")


def whole(path: Path) -> bool:
    """Whether a shard and its sidecar are there, readable, and agree."""
    if not (path.exists() and sidecar_of(path).exists()):
        return False
    try:
        note = read_json(sidecar_of(path), "")
    except RetortError:
        return False
    return note.get("sha256") == sha256_of(path)


def write_shard(path: Path, blocks: Iterator[tuple[int, Block, dict]]) -> dict:
    """Write a shard of (block number, fields, counts) and then its sidecar, both atomically.

    The counts of all blocks are added up in the sidecar, which is returned.

    Raises:
        RetortError: a block's fields are not the declared ones.
    """
    totals: dict[str, float] = {}
    with replacing(path) as temporary:
        with webdataset.TarWriter(str(temporary), mtime=0, user="retort", group="retort") as tar:
            for number, block, counts in blocks:
                check_block(path, block)
                tar.write({"__key__": f"{number:06d}", **encode(block)})
                for name, value in counts.items():
                    totals[name] = totals.get(name, 0) + value
    note = {**describe(path), "counts": totals}
    write_json(sidecar_of(path), note)
    return note


def check_block(path: Path, block: Block) -> None:
    """Refuse a block whose fields or types are not the declared ones."""
    found = {name: array.dtype for name, array in block.items()}
    declared = {name: np.dtype(kind) for name, kind in FIELDS.items()}
    if found != declared:
        raise RetortError(f"{path.name}: block has fields {found}; declared are {declared}")


def encode(block: Block) -> dict[str, bytes]:
    """A block's arrays as npy members of a tar."""
    members = {}
    for name in FIELDS:
        buffer = io.BytesIO()
        np.save(buffer, block[name], allow_pickle=False)
        members[f"{name}.npy"] = buffer.getvalue()
    return members


def read_shard(path: Path) -> Iterator[Block]:
    """The blocks of a shard in order."""
    with path.open("rb") as stream:
        files = tar_file_expander([{"url": path.name, "stream": stream}])
        for sample in group_by_keys(files):
            members = {name: io.BytesIO(sample[f"{name}.npy"]) for name in FIELDS}
            yield {name: np.load(file, allow_pickle=False) for name, file in members.items()}


def read_bank(folder: Path) -> dict[str, Tensor]:
    """A finished bank in memory, shards checked against the manifest first.

    Returns:
        ``t_clean`` (N,K) by source row; ``x_adv`` (M,C,H,W) uint8, ``t_adv`` (M,K) and ``row``
        (M,) of the accepted samples.

    Raises:
        RetortError: no manifest, an altered or missing shard, or no accepted sample.
    """
    artifact = open_artifact(folder)
    shards = sorted(name for name in artifact.manifest.files if name.endswith(".tar"))
    paths = [artifact.path(name) for name in shards]
    blocks = [block for path in paths for block in read_shard(path)]
    fields = {
        "t_clean": [b["t_clean"] for b in blocks],
        "x_adv": [b["x_adv"] for b in blocks],
        "t_adv": [b["t_adv"] for b in blocks],
        "row": [b["row"][b["accepted"]] for b in blocks],
    }
    bank = {name: torch.from_numpy(np.concatenate(parts)) for name, parts in fields.items()}
    if len(bank["x_adv"]) == 0:
        raise RetortError(
            f"{folder}: no sample was accepted; lower banks.*.attack.eps or set reject: keep"
        )
    return bank
