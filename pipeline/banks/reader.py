"""Reading a finished bank: checked first, then in memory except for image files."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.banks import image_codec
from pipeline.banks.shards import (
    IMAGE_SUFFIXES,
    TOPK_PARTS,
    Block,
    list_fields,
    read_shard,
    shard_name,
)
from pipeline.config.sections.bank import BankSpec, OutputsSpec
from pipeline.config.specs import get_spec
from pipeline.core import topk_logits
from pipeline.errors import RetortError
from pipeline.store.artefact import Artefact, open_artefact


@dataclass(frozen=True)
class StoredBank:
    """The fields of a bank in memory.

    Attributes:
        spec: the spec of the bank.
        fields: by name: ``row`` (M,), ``x_adv`` (M,C,H,W) uint8 and ``t_adv`` (M,K) of its
            samples, ``label`` and ``t_clean`` (N,K) by source row, each a tensor or an object
            with ``len``, ``[LongTensor]`` and ``to(device)``; outputs of views are (…,V,K).
        row_starts: (S+1,) first source row of each shard, and one past the last.
        sample_starts: (S+1,) first sample of each shard, and one past the last.
    """

    spec: BankSpec
    fields: dict[str, Tensor]
    row_starts: np.ndarray
    sample_starts: np.ndarray


def read_bank(folder: Path, needs: Iterable[str] = ()) -> StoredBank:
    """A finished bank, after its shards are checked against the manifest.

    Raises:
        RetortError: there is no manifest; a shard is altered, missing or of another bank; a field
            of ``needs`` is missing; no sample was accepted.
    """
    artefact = open_artefact(folder)
    spec, paths = get_spec(artefact.manifest), list_shard_paths(artefact)
    shards = [list(read_blocks(path, spec)) for path in paths]
    check_row_order(artefact, shards)
    blocks = [block for shard in shards for block in shard]
    fields = {
        name: concatenate_field(blocks, name) for name in list_fields(spec) if name != "accepted"
    }
    if spec.has_samples:
        fields["row"] = torch.cat([torch.from_numpy(b["row"][b["accepted"]]) for b in blocks])
        if len(fields["row"]) == 0:
            raise RetortError(
                f"{folder}: no sample was accepted; lower banks.*.attack.eps or set reject: keep"
            )
    fields["row"] = fields["row"].long()
    if spec.encoding in IMAGE_SUFFIXES:
        fields["x_adv"] = open_encoded_images(paths, shards)
    fields = pack_topk_outputs(fields, spec.outputs)
    if lacking := [need for need in needs if need not in fields]:
        raise RetortError(f"{folder}: has no '{lacking[0]}'; it has {', '.join(fields)}")
    sizes = [[len(b["row"]) for b in shard] for shard in shards]
    kept = [[int(b["accepted"].sum()) for b in shard if "accepted" in b] for shard in shards]
    return StoredBank(spec, fields, compute_shard_starts(sizes), compute_shard_starts(kept))


def compute_shard_starts(block_sizes: list[list[int]]) -> np.ndarray:
    """Start of each shard and end of the last, (S+1,), from the sizes of their blocks."""
    return np.concatenate([[0], np.cumsum([sum(shard) for shard in block_sizes])])


def list_shard_paths(artefact: Artefact) -> list[Path]:
    """Paths of a bank's shards, checked against spec and manifest.

    Raises:
        RetortError: a shard is altered, missing or not of this bank.
    """
    names = [shard_name(i) for i in range(get_spec(artefact.manifest).shards)]
    if foreign := sorted(artefact.manifest.files.keys() - set(names)):
        raise RetortError(
            f"{artefact.folder / foreign[0]}: is not of this bank of {len(names)} shards; delete "
            "it and the manifest, and run again"
        )
    return [artefact.get_verified_path(name) for name in names]


def read_blocks(path: Path, spec: BankSpec) -> Iterable[Block]:
    """A shard's blocks, each with every declared field.

    Raises:
        RetortError: a block lacks a field.
    """
    for block in read_shard(path, loads_images=False):
        if lacking := [name for name in list_fields(spec) if name not in block]:
            raise RetortError(
                f"{path}: a block has no field '{lacking[0]}'; delete the shard and its bank's "
                "manifest, and run again"
            )
        yield block


def check_row_order(artefact: Artefact, shards: list[list[Block]]) -> None:
    """Raise RetortError if the rows are not 0, 1, 2, …, so that a shard is of another bank."""
    expected = 0
    for number, shard in enumerate(shards):
        rows = np.concatenate([b["row"] for b in shard]) if shard else np.empty(0, np.int64)
        if not np.array_equal(rows, np.arange(expected, expected + len(rows))):
            raise RetortError(
                f"{artefact.folder / shard_name(number)}: does not go on at row {expected}, so it "
                "is of another bank; delete it and the manifest, and run again"
            )
        expected += len(rows)


def concatenate_field(blocks: list[Block], name: str) -> Tensor:
    """A field of all blocks as one tensor; wide unsigned types become int32."""
    array = np.concatenate([block[name] for block in blocks])
    wide = array.dtype.kind == "u" and array.dtype.itemsize > 1
    return torch.from_numpy(array.astype(np.int32) if wide else array)


def open_encoded_images(paths: list[Path], shards: list[list[Block]]) -> image_codec.EncodedImages:
    """The samples of a bank that stores them as image files, decoded on demand."""
    locations = [
        (tar, *place)
        for tar, shard in enumerate(shards)
        for block in shard
        for place in block.get("x_adv", [])
    ]
    return image_codec.EncodedImages.from_tars(tuple(paths), np.array(locations, np.int64))


def pack_topk_outputs(fields: dict, output_settings: OutputsSpec) -> dict:
    """The fields with ``PackedLogits`` instead of the parts of top-k outputs."""
    if not output_settings.top_k:
        return fields
    found = {
        name: value for name, value in fields.items() if name.rpartition("_")[2] not in TOPK_PARTS
    }
    for name in ("t_clean", "t_adv"):
        parts = [fields.get(f"{name}_{part}") for part in TOPK_PARTS]
        if parts[0] is not None:
            found[name] = topk_logits.PackedLogits(*parts, output_settings.classes)
    return found
