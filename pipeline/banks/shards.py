"""Banks on disk: WebDataset shards of row blocks, each with a sidecar, and one manifest.

A block holds, for its R source rows, ``row`` (R,) int64, ``label`` (R,) int16, ``accepted`` (R,)
bool and ``t_clean`` (R,K) float16. For its A accepted samples it holds ``x_adv`` (A,C,H,W) uint8,
``t_adv`` (A,K) float16 and ``flips`` (A,) float16, the share of tokens that the attack changed.

A bank's spec may ask for other forms. ``tokens`` (A,h,w) have the smallest unsigned type. Outputs
on V views are (R,V,K); then ``predicted`` (A,) int16 is the teacher's label of the sample itself,
and ``row`` is int32. Top-k outputs are ``_top``, ``_class`` and ``_tail``. Image files follow their
block, as `<row>.png` or `.jpg`. A bank without samples has rows, labels and ``t_clean``.
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
from pipeline.store.artefact import (
    compute_sha256,
    describe_file,
    read_json,
    write_atomically,
    write_json,
)
from pipeline.store.own_sum import add_own_sum, has_own_sum

REVISION = 1

UNSIGNED_TYPES = (np.uint8, np.uint16, np.uint32)
FIELD_TYPES: dict[str, tuple[type, ...]] = {  # the fields that a block may hold, in order
    "row": (np.int64, np.int32),
    "label": (np.int16,),
    "accepted": (np.bool_,),
    "t_clean": (np.float16,),
    "t_clean_top": (np.float16,),
    "t_clean_class": UNSIGNED_TYPES,
    "t_clean_tail": (np.float16,),
    "x_adv": (np.uint8,),
    "t_adv": (np.float16,),
    "t_adv_top": (np.float16,),
    "t_adv_class": UNSIGNED_TYPES,
    "t_adv_tail": (np.float16,),
    "flips": (np.float16,),
    "tokens": UNSIGNED_TYPES,
    "predicted": (np.int16,),
}
TOPK_PARTS = ("top", "class", "tail")
IMAGE_SUFFIXES = {"png": "png", "jpeg": "jpg"}  # encoding -> suffix
MEMBER_SUFFIXES = {f"{name}.npy" for name in FIELD_TYPES} | set(IMAGE_SUFFIXES.values())
NPY_MAGIC = b"\x93NUMPY\x01\x00"
MALFORMED_ERRORS = (EOFError, LookupError, ValueError, TypeError, SyntaxError)
MALFORMED_ERRORS += (RecursionError, MemoryError, OverflowError)
SIDECAR_FIELDS = {"sha256", "bytes", "counts", "bank", "shard"}
REBUILD_REMEDY = "delete it and its bank's manifest, and run again"

TAR_RECORD_BYTES = 512  # size of a record in a tar
TYPE_FLAG_OFFSET = 156  # position of the file type in a header record
DEFAULT_SPEC = BankSpec(seed=0, device="cpu", reject="drop")  # pixels in blocks, fp16 outputs

Block = dict[str, np.ndarray | list]


def list_fields(spec: BankSpec) -> tuple[str, ...]:
    """Names of a block's arrays for a bank's spec, in the order of ``FIELD_TYPES``."""

    def expand_output_fields(name: str) -> set[str]:
        return {f"{name}_{part}" for part in TOPK_PARTS} if spec.outputs.top_k else {name}

    names = {"row", "label"} | (expand_output_fields("t_clean") if spec.outputs.clean else set())
    if spec.has_samples:
        names |= {"accepted", "flips"} | expand_output_fields("t_adv")
        names |= {"x_adv"} if spec.encoding == "blocks" else set()
        names |= {"tokens"} if spec.has_tokens else set()
        names |= {"predicted"} if spec.views is not None else set()
    return tuple(name for name in FIELD_TYPES if name in names)


@dataclass(frozen=True)
class ShardLayout:
    """The division of source rows into blocks and of blocks into shards."""

    row_count: int
    shard_count: int
    block_size: int

    @property
    def block_count(self) -> int:
        """Number of row blocks; the last one may be short."""
        return -(-self.row_count // self.block_size)

    def get_shard_blocks(self, shard: int) -> range:
        """The blocks of a shard."""
        return range(
            shard * self.block_count // self.shard_count,
            (shard + 1) * self.block_count // self.shard_count,
        )

    def get_block_rows(self, block: int) -> range:
        """The source rows of a block."""
        return range(block * self.block_size, min((block + 1) * self.block_size, self.row_count))

    def get_shard_rows(self, shard: int) -> range:
        """The source rows of a shard."""
        blocks = self.get_shard_blocks(shard)
        return range(
            blocks.start * self.block_size, min(blocks.stop * self.block_size, self.row_count)
        )


def shard_name(shard: int) -> str:
    """The file name of a shard."""
    return f"shard-{shard:05d}.tar"


def sidecar_path(path: Path) -> Path:
    """The path of a shard's sidecar, which is written once the shard is complete."""
    return path.with_suffix(".json")


def describe_shard_fault(path: Path, key: str) -> str:
    """The fault of a shard of bank ``key`` according to its sidecar; empty if there is none."""
    if not path.exists():
        return "is missing"
    try:
        sidecar = read_json(sidecar_path(path), "")
    except RetortError:
        return "has no readable sidecar, so that it may be cut off"
    if not has_own_sum(sidecar, SIDECAR_FIELDS):
        return f"has a sidecar, {sidecar_path(path).name}, that was altered"
    if sidecar.get("bank") != key:
        return f"is of bank {sidecar.get('bank', 'that is not named')}, not of {key}"
    if sidecar.get("shard") != path.name:
        return f"is {sidecar.get('shard')} under another name"
    return (
        ""
        if sidecar.get("sha256") == compute_sha256(path)
        else "does not match its sidecar's sha256"
    )


def is_whole(path: Path, key: str) -> bool:
    """Whether a shard and its sidecar exist, belong to bank ``key`` and agree."""
    return not describe_shard_fault(path, key)


def write_shard(
    path: Path,
    blocks: Iterator[tuple[int, Block, dict]],
    spec: BankSpec = DEFAULT_SPEC,
    key: str = "",
) -> dict:
    """Write a shard of (block number, fields, counts), then its sidecar, both atomically.

    Returns the sidecar, which holds the sums of the blocks' counts.

    Raises:
        RetortError: a block's fields are not those of the spec.
    """
    totals: dict[str, float] = {}
    with write_atomically(path) as temporary:
        with webdataset.TarWriter(str(temporary), mtime=0, user="retort", group="retort") as tar:
            for number, block, counts in blocks:
                check_block_fields(path, block, spec)
                for member in iterate_tar_members(number, block, spec):
                    tar.write(member)
                for name, value in counts.items():
                    totals[name] = totals.get(name, 0) + value
    sidecar = {**describe_file(path), "counts": totals, "bank": key, "shard": path.name}
    write_json(sidecar_path(path), add_own_sum(sidecar))
    return sidecar


def check_block_fields(path: Path, block: Block, spec: BankSpec) -> None:
    """Raise RetortError if a block's fields or types are not those of the spec."""
    names = list_fields(spec)
    found = {name: array.dtype.name for name, array in block.items() if name in names}
    pictured = {"x_adv"} if spec.encoding in IMAGE_SUFFIXES else set()
    fit = all(np.dtype(kind) in map(np.dtype, FIELD_TYPES[name]) for name, kind in found.items())
    if not fit or block.keys() != {*names, *pictured}:
        raise RetortError(f"{path.name}: block has fields {found}; declared are {names}")


def iterate_tar_members(number: int, block: Block, spec: BankSpec) -> Iterator[dict]:
    """A block's members of a tar: npy files, then its samples' image files if the spec has any."""
    arrays: dict[str, str | bytes] = {"__key__": f"{number:06d}"}
    for name in list_fields(spec):
        buffer = io.BytesIO()
        np.save(buffer, block[name], allow_pickle=False)
        arrays[f"{name}.npy"] = buffer.getvalue()
    yield arrays
    if spec.encoding in IMAGE_SUFFIXES:
        suffix, rows = IMAGE_SUFFIXES[spec.encoding], block["row"][block["accepted"]]
        for row, data in zip(rows.tolist(), block["x_adv"], strict=True):
            yield {"__key__": f"{row:09d}", suffix: data}


@lru_cache(maxsize=256)
def parse_npy_header(header: bytes) -> tuple[np.dtype, tuple[int, ...], str]:
    """Type, shape and memory order in the header of an npy file."""
    if header[: len(NPY_MAGIC)] != NPY_MAGIC:
        raise ValueError("no npy file of version 1")
    fields = ast.literal_eval(header[10:].decode("latin1"))
    dtype, shape = np.dtype(str(fields["descr"])), tuple(map(int, fields["shape"]))
    return dtype, shape, "F" if fields["fortran_order"] else "C"


def map_npy_array(data: mmap.mmap, offset: int) -> np.ndarray:
    """The array of the npy file at an offset; it shares the memory of ``data``."""
    start = 10 + int.from_bytes(data[offset + 8 : offset + 10], "little")
    dtype, shape, order = parse_npy_header(data[offset : offset + start])
    count = math.prod(shape)
    return np.frombuffer(data, dtype, count, offset=offset + start).reshape(shape, order=order)


def iterate_tar_files(data: mmap.mmap) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size in bytes of each file of a tar with plain headers (POSIX ustar).

    Raises:
        EOFError: the tar ends too early.
        ValueError: a header is malformed or not that of a plain file.
    """
    offset = 0
    while data[offset : offset + 1] != b"\0":
        header = data[offset : offset + TAR_RECORD_BYTES]
        if len(header) < TAR_RECORD_BYTES:
            raise EOFError("no end")
        name, size = header[:100].split(b"\0", 1)[0].decode(), int(header[124:135], 8)
        if header[TYPE_FLAG_OFFSET] not in b"0\0" or size < 0:
            raise ValueError(f"{name}: no plain file")
        if offset + TAR_RECORD_BYTES + size > len(data):
            raise EOFError(name)
        yield name, offset + TAR_RECORD_BYTES, size
        offset += TAR_RECORD_BYTES + -(-size // TAR_RECORD_BYTES) * TAR_RECORD_BYTES


def read_shard(path: Path, loads_images: bool = True) -> Iterator[Block]:
    """The blocks of a shard in order; their arrays share the memory of the mapped file.

    Where samples are image files, ``x_adv`` lists the files' bytes or, without ``loads_images``,
    their (offset, size) in the shard.

    Raises:
        RetortError: the file is no tar, is truncated, or holds anything but arrays and images.
            Nothing in it is ever unpickled.
    """
    try:
        yield from iterate_blocks(path, loads_images)
    except MALFORMED_ERRORS as error:
        what = f"is cut, altered or no bank's shard ({type(error).__name__})"
        raise RetortError(f"{path}: {what}; {REBUILD_REMEDY}") from error


def iterate_blocks(path: Path, loads_images: bool) -> Iterator[Block]:
    """The blocks of a shard; errors of malformed files are not translated."""
    block: Block = {}
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    for member, offset, size in iterate_tar_files(data):
        _, _, kind = member.partition(".")
        if kind not in MEMBER_SUFFIXES:
            what = f"holds {member!r}, which no bank's shard does, and which is not read"
            raise RetortError(f"{path}: {what}; {REBUILD_REMEDY}")
        if not kind.endswith("npy"):
            found = data[offset : offset + size] if loads_images else (offset, size)
            block.setdefault("x_adv", []).append(found)
            continue
        name = kind.removesuffix(".npy")
        if name in block:
            yield block
            block = {}
        block[name] = map_npy_array(data, offset)
    if block:
        yield block
