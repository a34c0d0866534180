"""What takes the place of samples whose label the teacher no longer says: Q(x), judged anew."""

import torch
from torch import Tensor

REVISION = 1

Shown = tuple[Tensor, list[bytes] | None, Tensor]  # images, their files if any, outputs on them


def replaced(shown: Shown, rows: Tensor, instead: Shown) -> Shown:
    """What is shown of samples, that of ``rows`` (R,) replaced by what others show (R,...)."""
    (images, files, outputs), (new_images, new_files, new_outputs) = shown, instead
    if files is not None:
        others = dict(zip(rows.tolist(), new_files, strict=True))
        files = [others.get(i, data) for i, data in enumerate(files)]
    return (
        torch.index_copy(images, 0, rows, new_images),
        files,
        torch.index_copy(outputs, 0, rows, new_outputs),
    )
