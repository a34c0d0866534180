"""Samples of a bank to look at: an image, what the discretiser makes of it, and what was stored."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.banks import image_codec
from pipeline.banks.shards import Block, read_shard
from pipeline.core.images import pixels
from pipeline.data.dataset_artifact import open_data
from pipeline.models.classifier import MODEL
from pipeline.report.outcomes import Study
from pipeline.store.artifact import Artifact

REVISION = 1

UNMOVED = 0.5 / 255  # mean change of a pixel that rounding to 8 bits alone can make


@dataclass(frozen=True)
class Specimen:
    """x, Q(x) and Q(x') as (C,H,W) arrays in [0,1], and a caption."""

    clean: np.ndarray
    quantised: np.ndarray
    stored: np.ndarray
    caption: str


def choose(study: Study, bank: Artifact, count: int) -> list[Specimen]:
    """The first samples of a bank that the attack moved and whose label the teacher kept.

    Q(x) is computed anew; the bank holds Q(x').
    """
    from pipeline.models import vqgan

    inputs = bank.manifest.inputs
    if "discretizer" not in inputs:
        return []
    data = open_data(study.artifacts[f"dataset/{inputs['dataset']}"].folder)
    images = data.split("train").images
    weights = study.artifacts[f"discretizer/{inputs['discretizer']}"].path(MODEL)
    quantiser = vqgan.load(weights)
    found: list[Specimen] = []
    for shard in sorted(name for name in bank.manifest.files if name.endswith(".tar")):
        if len(found) >= count:
            break
        for block in read_shard(bank.path(shard)):  # to its end: the reader closes it only there
            if len(found) < count:
                found += moved(block, images, quantiser, data.classes)
    return found[:count]


def images_of(block: Block) -> Tensor:
    """A block's samples (A,C,H,W) uint8, decoded if they are pictures."""
    if isinstance(block["x_adv"], list):
        return image_codec.decoded_all(block["x_adv"])
    return torch.from_numpy(block["x_adv"])


@torch.no_grad()
def moved(
    block: Block, images: Tensor, quantiser: nn.Module, classes: Sequence[str]
) -> list[Specimen]:
    """A block's specimens, in order of source row; none of a bank without pixels or all logits."""
    if not {"x_adv", "t_adv"} <= block.keys() or not block["accepted"].any():
        return []
    rows, labels = (block[name][block["accepted"]] for name in ("row", "label"))
    x, stored = pixels(images[torch.from_numpy(rows)]), pixels(images_of(block))
    q = quantiser.reconstruct(x)
    confidence, guess = torch.from_numpy(block["t_adv"]).float().softmax(1).max(1)
    change = (stored - q).abs().flatten(1).mean(1)
    found = []
    for i, label in enumerate(labels.tolist()):
        if guess[i] == label and change[i] > UNMOVED:
            said = f"{classes[guess[i]]} {100 * confidence[i]:.0f} %"
            caption = f"label: {classes[label]}\nteacher: {said}"
            found.append(Specimen(x[i].numpy(), q[i].numpy(), stored[i].numpy(), caption))
    return found
