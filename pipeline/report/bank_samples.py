"""Samples of a bank for a figure: the image, its reconstruction and the stored sample."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.banks import image_codec
from pipeline.banks.shards import Block, read_shard
from pipeline.core.images import scale_to_unit_range
from pipeline.data.dataset_artefact import open_dataset
from pipeline.models.classifier import MODEL_FILE
from pipeline.report.outcomes import Study
from pipeline.store.artefact import Artefact

REVISION = 3

MAX_ROUNDING_CHANGE = 0.5 / 255  # the largest mean change of a pixel by rounding to 8 bits


@dataclass(frozen=True)
class BankSample:
    """A bank's name; x, Q(x) and the stored sample as (C,H,W) arrays in [0,1]; and a caption.

    Q(x) is None for a bank without a discretizer.
    """

    bank: str
    clean: np.ndarray
    reconstruction: np.ndarray | None
    stored: np.ndarray
    caption: str


def choose_bank_samples(study: Study, name: str, bank: Artefact, count: int) -> list[BankSample]:
    """The first samples of a bank that the attack changed and whose label the teacher predicts.

    Q(x) is computed here, because the bank stores Q(x') alone.
    """
    inputs = bank.manifest.inputs
    data = open_dataset(study.artefacts[f"dataset/{inputs['dataset']}"].folder)
    images = data.read_split("train").images
    discretizer = load_discretizer(study, inputs)
    found: list[BankSample] = []
    for shard in sorted(name for name in bank.manifest.files if name.endswith(".tar")):
        if len(found) >= count:
            break
        for block in read_shard(
            bank.get_verified_path(shard)
        ):  # read to the end, because only there the reader closes it
            if len(found) < count:
                found += find_moved_samples(name, block, images, discretizer, data.classes)
    return found[:count]


def load_discretizer(study: Study, inputs: Mapping[str, str]) -> nn.Module | None:
    """The discretizer of a bank with these inputs; None if it has none."""
    from pipeline.models import vqgan

    if "discretizer" not in inputs:
        return None
    artefact = study.artefacts[f"discretizer/{inputs['discretizer']}"]
    return vqgan.load(artefact.get_verified_path(MODEL_FILE))


def decode_samples(block: Block) -> Tensor:
    """A block's samples (A,C,H,W) uint8, decoded if they are image files."""
    if isinstance(block["x_adv"], list):
        return image_codec.decode_images(block["x_adv"])
    return torch.from_numpy(block["x_adv"])


@torch.no_grad()
def find_moved_samples(
    bank: str,
    block: Block,
    images: Tensor,
    discretizer: nn.Module | None,
    classes: Sequence[str],
) -> list[BankSample]:
    """A block's samples for the figure, by source row; none if it lacks pixels or full logits."""
    if not {"x_adv", "t_adv"} <= block.keys() or not block["accepted"].any():
        return []
    rows, labels = (block[name][block["accepted"]] for name in ("row", "label"))
    x, stored = (
        scale_to_unit_range(images[torch.from_numpy(rows)]),
        scale_to_unit_range(decode_samples(block)),
    )
    reconstructions = x if discretizer is None else discretizer.reconstruct(x)
    probabilities = torch.from_numpy(block["t_adv"]).float().softmax(-1)
    predictions, over_views = probabilities.argmax(-1), ""
    if probabilities.dim() == 3:  # (A,V,K): outputs on V views of each sample
        probabilities, over_views = probabilities.mean(1), ", mean over views"
        predictions = torch.from_numpy(block["predicted"]).long()  # of the sample itself
    change = (stored - reconstructions).abs().flatten(1).mean(1)
    found = []
    for i, label in enumerate(labels.tolist()):
        if predictions[i] == label and change[i] > MAX_ROUNDING_CHANGE:
            answer = f"{classes[label]} {100 * probabilities[i, label]:.0f} %{over_views}"
            caption = f"label: {classes[label]}\nteacher: {answer}"
            quantised = None if discretizer is None else reconstructions[i].numpy()
            found.append(BankSample(bank, x[i].numpy(), quantised, stored[i].numpy(), caption))
    return found
