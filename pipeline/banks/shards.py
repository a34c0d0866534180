"""Banks on disk: WebDataset shards of row blocks, a sidecar each, one manifest over all.

A block holds, for its R source rows, ``row`` (R,) int64, ``label`` (R,) int16, ``accepted`` (R,)
bool and ``t_clean`` (R,K) float16; for its A accepted ones ``x_adv`` (A,C,H,W) uint8, ``t_adv``
(A,K) float16 and ``flips`` (A,) float16, the share of tokens that differ from the image's own.

A bank's spec may ask for other forms: ``tokens`` (A,h,w) in the smallest unsigned type; outputs
(R,V,K) of V views, and then ``predicted`` (A,) int16, the teacher's word on the sample itself, at
the price of ``row`` in int32; outputs as ``_top``, ``_class`` and ``_tail``; one picture a sample,
`<row>.png` or `.jpg`, behind its block. A bank without samples has rows, labels and ``t_clean``.
"""

import ast
import io
import math
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import webdataset

from pipeline.config.sections.bank import BankSpec
from pipeline.errors import RetortError
from pipeline.store.artifact import describe, read_json, replacing, sha256_of, write_json

REVISION = 1

UNSIGNED = (np.uint8, np.uint16, np.uint32)
KINDS: dict[str, tuple[type, ...]] = {  # what a block may hold, in order
    "row": (np.int64, np.int32),
    "label": (np.int16,),
    "accepted": (np.bool_,),
    "t_clean": (np.float16,),
    "t_clean_top": (np.float16,),
    "t_clean_class": UNSIGNED,
    "t_clean_tail": (np.float16,),
    "x_adv": (np.uint8,),
    "t_adv": (np.float16,),
    "t_adv_top": (np.float16,),
    "t_adv_class": UNSIGNED,
    "t_adv_tail": (np.float16,),
    "flips": (np.float16,),
    "tokens": UNSIGNED,
    "predicted": (np.int16,),
}
PARTS = ("top", "class", "tail")
PICTURES = {"png": "png", "jpeg": "jpg"}  # encoding -> suffix
MEMBERS = {f"{name}.npy" for name in KINDS} | set(PICTURES.values())
MAGIC = b"\x93NUMPY\x01\x00"
MALFORMED = (EOFError, LookupError, ValueError, TypeError, SyntaxError)
MALFORMED += (RecursionError, MemoryError, OverflowError)
ANEW = "delete it and its bank's manifest, and run again"

RECORD = 512  # bytes of a tar's records
PLAIN_FILE = 156  # where a record says what kind of file follows
PLAIN = BankSpec(seed=0, device="cpu", reject="drop")  # blocks of pixels, fp16 outputs

Block = dict[str, np.ndarray | list]


def fields_of(spec: BankSpec) -> tuple[str, ...]:
    """Names of a block's arrays for a bank's spec, in the order of ``KINDS``."""

    def stored(name: str) -> set[str]:
        return {f"{name}_{part}" for part in PARTS} if spec.outputs.top_k else {name}

    names = {"row", "label"} | (stored("t_clean") if spec.outputs.clean else set())
    if spec.has_samples:
        names |= {"accepted", "flips"} | stored("t_adv")
        names |= {"x_adv"} if spec.encoding == "blocks" else set()
        names |= {"tokens"} if spec.has_tokens else set()
        names |= {"predicted"} if spec.views is not None else set()
    return tuple(name for name in KINDS if name in names)


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

    def rows_in(self, shard: int) -> range:
        """Source rows of a shard."""
        blocks = self.blocks_of(shard)
        return range(blocks.start * self.block, min(blocks.stop * self.block, self.rows))


def shard_name(shard: int) -> str:
    """File name of a shard."""
    return f"shard-{shard:05d}.tar"


def sidecar_of(path: Path) -> Path:
    """The small file that says a shard is whole."""
    return path.with_suffix(".json")


def fault(path: Path, key: str) -> str:
    """What is wrong with a shard of bank ``key`` by its sidecar, empty if nothing is."""
    if not path.exists():
        return "is missing"
    try:
        note = read_json(sidecar_of(path), "")
    except RetortError:
        return "has no readable sidecar, so that it may be cut off"
    if note.get("bank") != key:
        return f"is of bank {note.get('bank', 'that is not named')}, not of {key}"
    if note.get("shard") != path.name:
        return f"is {note.get('shard')} under another name"
    return "" if note.get("sha256") == sha256_of(path) else "does not match its sidecar's sha256"


def whole(path: Path, key: str) -> bool:
    """Whether a shard and its sidecar are there, readable, of bank ``key``, and agree."""
    return not fault(path, key)


def write_shard(
    path: Path,
    blocks: Iterator[tuple[int, Block, dict]],
    spec: BankSpec = PLAIN,
    key: str = "",
) -> dict:
    """Write a shard of (block number, fields, counts) and then its sidecar, both atomically.

    The counts of all blocks are added up in the sidecar, which is returned.

    Raises:
        RetortError: a block's fields are not those that the spec declares.
    """
    totals: dict[str, float] = {}
    with replacing(path) as temporary:
        with webdataset.TarWriter(str(temporary), mtime=0, user="retort", group="retort") as tar:
            for number, block, counts in blocks:
                check_block(path, block, spec)
                for member in members_of(number, block, spec):
                    tar.write(member)
                for name, value in counts.items():
                    totals[name] = totals.get(name, 0) + value
    note = {**describe(path), "counts": totals, "bank": key, "shard": path.name}
    write_json(sidecar_of(path), note)
    return note


def check_block(path: Path, block: Block, spec: BankSpec) -> None:
    """Refuse a block whose fields or types are not the declared ones."""
    names = fields_of(spec)
    found = {name: array.dtype.name for name, array in block.items() if name in names}
    pictured = {"x_adv"} if spec.encoding in PICTURES else set()
    fit = all(np.dtype(kind) in map(np.dtype, KINDS[name]) for name, kind in found.items())
    if not fit or block.keys() != {*names, *pictured}:
        raise RetortError(f"{path.name}: block has fields {found}; declared are {names}")


def members_of(number: int, block: Block, spec: BankSpec) -> Iterator[dict]:
    """A block as members of a tar: its arrays as npy files, then a picture a sample if asked."""
    arrays: dict[str, str | bytes] = {"__key__": f"{number:06d}"}
    for name in fields_of(spec):
        buffer = io.BytesIO()
        np.save(buffer, block[name], allow_pickle=False)
        arrays[f"{name}.npy"] = buffer.getvalue()
    yield arrays
    if spec.encoding in PICTURES:
        suffix, rows = PICTURES[spec.encoding], block["row"][block["accepted"]]
        for row, data in zip(rows.tolist(), block["x_adv"], strict=True):
            yield {"__key__": f"{row:09d}", suffix: data}


@lru_cache(maxsize=256)
def header_of(head: bytes) -> tuple[np.dtype, tuple[int, ...], str]:
    """Type, shape and order of the numbers in an npy file's header."""
    if head[: len(MAGIC)] != MAGIC:
        raise ValueError("no npy file of version 1")
    fields = ast.literal_eval(head[10:].decode("latin1"))
    kind, shape = np.dtype(str(fields["descr"])), tuple(map(int, fields["shape"]))
    return kind, shape, "F" if fields["fortran_order"] else "C"


def array_of(data: mmap.mmap, at: int) -> np.ndarray:
    """The array of an npy file at an offset, sharing its memory. Headers are parsed once."""
    start = 10 + int.from_bytes(data[at + 8 : at + 10], "little")
    kind, shape, order = header_of(data[at : at + start])
    count = math.prod(shape)
    return np.frombuffer(data, kind, count, offset=at + start).reshape(shape, order=order)


def files_of(data: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """Name, offset and bytes of each file of a tar, whose headers are plain ones (POSIX ustar).

    Raises:
        EOFError: it ends too early.
        ValueError: a header is none, or not a plain file's.
    """
    at = 0
    while data[at : at + 1] != b"\0":
        head = data[at : at + RECORD]
        if len(head) < RECORD:
            raise EOFError("no end")
        name, size = head[:100].split(b"\0", 1)[0].decode(), int(head[124:135], 8)
        if head[PLAIN_FILE] not in b"0\0" or size < 0:
            raise ValueError(f"{name}: no plain file")
        if at + RECORD + size > len(data):
            raise EOFError(name)
        yield name, at + RECORD, size
        at += RECORD + -(-size // RECORD) * RECORD


def read_shard(path: Path, pictures: bool = True) -> Iterator[Block]:
    """The blocks of a shard in order; their arrays share the memory that the file is mapped to.

    Where samples are pictures, ``x_adv`` is the list of their files' bytes, or, without
    ``pictures``, of their (offset, bytes) in the shard.

    Raises:
        RetortError: it is no tar, is cut, or holds something else than arrays and pictures.
            Nothing in it is ever unpickled.
    """
    try:
        yield from blocks_in(path, pictures)
    except MALFORMED as error:
        what = f"is cut, altered or no bank's shard ({type(error).__name__})"
        raise RetortError(f"{path}: {what}; {ANEW}") from error


def blocks_in(path: Path, pictures: bool) -> Iterator[Block]:
    """The blocks of a shard, whatever goes wrong."""
    block: Block = {}
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    for member, at, size in files_of(data):
        _, _, kind = member.partition(".")
        if kind not in MEMBERS:
            what = f"holds {member!r}, which no bank's shard does, and which is not read"
            raise RetortError(f"{path}: {what}; {ANEW}")
        if not kind.endswith("npy"):
            found = data[at : at + size] if pictures else (at, size)
            block.setdefault("x_adv", []).append(found)
            continue
        name = kind.removesuffix(".npy")
        if name in block:
            yield block
            block = {}
        block[name] = array_of(data, at)
    if block:
        yield block
