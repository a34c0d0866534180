"""The teacher's outputs on the stored views of a shard's images and samples.

This module is part of the stage `pipeline.stages.build_bank`: a change that moves numbers here must
raise REVISION there.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.banks.builder import BankBuilder, list_output_fields
from pipeline.banks.launched import LaunchedBlock, LaunchedFields, start_copies
from pipeline.banks.shards import Block
from pipeline.banks.stored_views import ImageSet, StoredViews
from pipeline.core.devices.placement import copy_to_device
from pipeline.core.images import scale_to_unit_range

NumberedBlocks = list[tuple[int, Block, dict]]


@torch.no_grad()
def launch_view_outputs(
    builder: BankBuilder, numbered_blocks: NumberedBlocks
) -> Iterator[tuple[int, LaunchedBlock]]:
    """A complete shard's blocks, launched with the teacher's outputs on all their views.

    A view mixes images of the whole shard, so all its blocks are on the host before.
    """
    spec, teacher = builder.spec, builder.teacher
    views, image_sets = StoredViews.from_spec(spec), make_image_sets(builder, numbered_blocks)
    done = dict.fromkeys(image_sets, 0)
    for number, block, counts in numbered_blocks:
        outputs: LaunchedFields = {}
        for name, (image_set, counted) in image_sets.items():
            index = torch.arange(done[name], done[name] + len(block[counted]))
            outputs[name] = compute_view_logits(teacher, views, image_set, index)
            done[name] += len(index)
        launched = LaunchedBlock({**block, **outputs}, {}, counts, spec.outputs)
        yield number, start_copies(launched, spec.device)


def make_image_sets(
    builder: BankBuilder, numbered_blocks: NumberedBlocks
) -> dict[str, tuple[ImageSet, str]]:
    """A shard's images by the name of the outputs on them, and the field that counts a block's."""
    spec, image_sets = builder.spec, {}
    rows = np.concatenate([block["row"] for _, block, _ in numbered_blocks])
    if "t_clean" in list_output_fields(spec):
        images = builder.split.images[int(rows[0]) : int(rows[-1]) + 1]
        images = copy_to_device(images, spec.device)
        image_sets["t_clean"] = ImageSet(images, rows, np.array([0, len(rows)])), "row"
    if spec.has_samples:
        images = np.concatenate([block["x_adv"] for _, block, _ in numbered_blocks])
        own = rows[np.concatenate([block["accepted"] for _, block, _ in numbered_blocks])]
        images = copy_to_device(torch.from_numpy(images), spec.device)
        image_sets["t_adv"] = ImageSet(images, own, np.array([0, len(own)])), "x_adv"
    return image_sets


def compute_view_logits(
    teacher: nn.Module, views: StoredViews, image_set: ImageSet, index: Tensor
) -> Tensor:
    """The teacher's logits (B,V,K) on every view of the images at ``index``."""
    shown = (views.make_view(image_set, index, view)[0] for view in range(views.count))
    return torch.stack([teacher(scale_to_unit_range(images)) for images in shown], 1)
