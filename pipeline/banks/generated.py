"""Samples from generated images: another data set's image of the same class for each source row.

So the output of any text-to-image model can be distilled (DAD, Table 10).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.core.seeding import derive_seed
from pipeline.data.splits import Split
from pipeline.errors import RetortError

REVISION = 1


def choose_images(generated: Split, labels: Sequence[int], rows: range, seed: int) -> Tensor:
    """A generated image (B,C,H,W) uint8 for each row, of its label; each row has its own draw.

    Raises:
        RetortError: there is no generated image of a label.
    """
    chosen = []
    places = {label: (generated.labels == label).nonzero().flatten() for label in set(labels)}
    for label, row in zip(labels, rows, strict=True):
        of_class = places[label]
        if not len(of_class):
            raise RetortError(
                f"banks: 'images' has no training image of class {label}; add one, or take the "
                "class out of the bank's data set"
            )
        chosen.append(of_class[derive_seed(seed, "generated", row) % len(of_class)])
    return generated.images[torch.stack(chosen)]
