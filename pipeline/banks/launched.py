"""Blocks of a bank on their way from a device to the host, which does not wait for them.

A launched block's kernels and copies are queued. Another thread waits for them, leaves out what is
not stored and makes arrays of the rest, while the next block computes.

This module is part of the stage `pipeline.stages.build_bank`: a change that moves numbers here must
raise REVISION there.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.banks.shards import Block
from pipeline.config.sections.bank import OutputsSpec
from pipeline.core import topk_logits
from pipeline.core.devices.placement import copy_to_device, copy_to_host, record_event

STORED_TYPES: dict[str, type] = {  # of fields that are computed in another type
    "label": np.int16,
    "flips": np.float16,
    "predicted": np.int16,
}
OUTPUT_FIELDS = ("t_clean", "t_adv")

LaunchedFields = dict[str, Tensor | np.ndarray | list]
LaunchedCounts = dict[str, Tensor | float]


@dataclass(frozen=True)
class LaunchedBlock:
    """A block of B rows whose computation is queued, and maybe not done.

    Attributes:
        fields: what is stored of every row, by name: tensors (B,…), or arrays and lists as they
            are stored. ``accepted`` (B,) bool says which samples are kept.
        samples: tensors (B,…), and lists of B files, of which only those of kept samples are
            stored.
        counts: numbers, and tensors without dimensions.
        outputs: the form in which outputs (B,…,K) are stored.
        types: the types of fields that are stored in another type than they are computed in.
        arrived: the end of the copies to the host; None where they are done.
    """

    fields: LaunchedFields
    samples: LaunchedFields
    counts: LaunchedCounts
    outputs: OutputsSpec = OutputsSpec()
    types: Mapping[str, type | np.dtype] = field(default_factory=lambda: STORED_TYPES)
    arrived: torch.cuda.Event | None = None

    def fetch(self) -> tuple[Block, dict]:
        """The block's stored arrays and its counts; waits until they are on the host.

        The top k of outputs are cut on their device once it is known which are kept, so that each
        sum is that of the kept rows alone.
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        block: Block = {}
        for name, values in self.fields.items():
            block |= self.make_arrays(name, values)
        if self.samples:
            kept = torch.from_numpy(block["accepted"]).nonzero().flatten()
            for name, values in self.samples.items():
                block |= self.make_arrays(name, take_rows(values, kept))
        counts = {n: v.item() if isinstance(v, Tensor) else v for n, v in self.counts.items()}
        return block, counts

    def make_arrays(self, name: str, values: Tensor | np.ndarray | list) -> Block:
        """The stored arrays of one field; what is stored already stays as it is."""
        if not isinstance(values, Tensor):
            return {name: values}
        if name in OUTPUT_FIELDS:
            return encode_outputs(name, values, self.outputs)
        array = values.numpy()
        return {name: array.astype(self.types.get(name, array.dtype), copy=False)}


def start_copies(block: LaunchedBlock, device: str) -> LaunchedBlock:
    """The block with all that it stores on the way from the device to the host; nothing waits.

    Outputs whose top k are stored stay where they are until the block is fetched.
    """
    stays = OUTPUT_FIELDS if block.outputs.top_k else ()

    def copy_all(values: dict) -> dict:
        return {
            name: copy_to_host(value) if isinstance(value, Tensor) and name not in stays else value
            for name, value in values.items()
        }

    copied = {name: copy_all(getattr(block, name)) for name in ("fields", "samples", "counts")}
    return replace(block, **copied, arrived=record_event(device))


def take_rows(values: Tensor | np.ndarray | list, rows: Tensor) -> Tensor | list:
    """The values at the rows (A,), which are on the host."""
    if isinstance(values, Tensor):
        return values[copy_to_device(rows, values.device)]
    return [values[row] for row in rows.tolist()]


def encode_outputs(name: str, logits: Tensor, settings: OutputsSpec) -> Block:
    """Arrays of outputs (…,K) in the spec's form: fp16, or their top k."""
    if not settings.top_k:
        return {name: logits.numpy().astype(np.float16)}
    parts = topk_logits.pack_logits(logits, settings.top_k, settings.temperature)
    return {f"{name}_{part}": array for part, array in parts.items()}
