"""What takes the place of samples whose label the teacher no longer says: Q(x), judged anew."""

import torch
from torch import Tensor

REVISION = 1

JudgedImages = tuple[
    Tensor, list[bytes] | None, Tensor
]  # images, their files if any, outputs on them


def replace_rejected(
    judged: JudgedImages, positions: Tensor, replacements: JudgedImages
) -> JudgedImages:
    """What is shown of samples, that of ``rows`` (R,) replaced by what others show (R,...)."""
    (images, files, outputs), (new_images, new_files, new_outputs) = judged, replacements
    if files is not None:
        others = dict(zip(positions.tolist(), new_files, strict=True))
        files = [others.get(i, data) for i, data in enumerate(files)]
    return (
        torch.index_copy(images, 0, positions, new_images),
        files,
        torch.index_copy(outputs, 0, positions, new_outputs),
    )
