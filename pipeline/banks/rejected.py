"""The replacement of rejected samples by Q(x), with the teacher's outputs on it."""

import torch
from torch import Tensor

REVISION = 1

JudgedImages = tuple[
    Tensor, list[bytes] | None, Tensor
]  # images, their files if any, outputs on them


def replace_rejected(
    judged: JudgedImages, positions: Tensor, replacements: JudgedImages
) -> JudgedImages:
    """The judged images, with those at ``positions`` (R,) replaced by ``replacements`` (R,…)."""
    (images, files, outputs), (new_images, new_files, new_outputs) = judged, replacements
    if files is not None:
        others = dict(zip(positions.tolist(), new_files, strict=True))
        files = [others.get(i, data) for i, data in enumerate(files)]
    return (
        torch.index_copy(images, 0, positions, new_images),
        files,
        torch.index_copy(outputs, 0, positions, new_outputs),
    )
