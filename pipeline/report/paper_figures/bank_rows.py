"""Samples of several banks of the same images side by side (DAD, Fig. 3)."""

from itertools import pairwise

import numpy as np

from pipeline.banks.shards import read_shard
from pipeline.core.images import scale_to_unit_range
from pipeline.data.dataset_artefact import open_dataset
from pipeline.report.bank_samples import decode_samples
from pipeline.report.figures import show_image
from pipeline.report.paper_figures.canvas import Canvas
from pipeline.store.artefact import Artefact

REVISION = 1

FRAME = "0.7"  # a light grey
SAMPLES_READ = 2000  # of each bank, at most; enough to find rows that all banks have


def read_samples_by_row(bank: Artefact) -> dict[int, np.ndarray]:
    """A bank's first samples (C,H,W) in [0,1] by source row; empty if it has no pixels."""
    found: dict[int, np.ndarray] = {}
    for shard in sorted(name for name in bank.manifest.files if name.endswith(".tar")):
        if len(found) >= SAMPLES_READ:
            break
        for block in read_shard(bank.get_verified_path(shard)):  # to the end, which closes it
            if "x_adv" in block and len(found) < SAMPLES_READ:
                images = scale_to_unit_range(decode_samples(block)).numpy()
                rows = block["row"][block["accepted"]].tolist()
                found |= dict(zip(rows, images, strict=True))
    return found


def choose_common_rows(samples: dict[str, dict[int, np.ndarray]], count: int) -> list[int]:
    """The first rows that every bank has, those first in which the banks differ."""
    common = sorted(set.intersection(*map(set, samples.values())))
    differing = [
        row
        for row in common
        if all(not np.array_equal(a[row], b[row]) for a, b in pairwise(samples.values()))
    ]
    rest = [row for row in common if row not in set(differing)]
    return sorted((differing + rest)[:count])


def draw_bank_rows(canvas: Canvas) -> str:
    """Draw a row for each image: clean, and each bank's sample of it."""
    banks = canvas.study.get_artefacts("bank")
    by_data: dict[str, dict[str, dict[int, np.ndarray]]] = {}
    for name, bank in banks.items():
        if samples := read_samples_by_row(bank):
            by_data.setdefault(bank.manifest.inputs["dataset"], {})[name] = samples
    if not by_data:
        return ""
    key, samples = max(by_data.items(), key=lambda item: len(item[1]))  # the first of the most
    rows = choose_common_rows(samples, canvas.spec.samples)
    if not rows:
        return ""
    data = open_dataset(canvas.study.artefacts[f"dataset/{key}"].folder)
    split = data.read_split("train")
    left_out = [name for name in banks if name not in samples]
    with canvas.open_figure(1.4 + 1.4 * (1 + len(samples)), 0.4 + 1.4 * len(rows)) as figure:
        axes = figure.subplots(len(rows), 1 + len(samples), squeeze=False)
        for places, row in zip(axes, rows, strict=True):
            clean = scale_to_unit_range(split.images[row : row + 1])[0].numpy()
            for place, image in zip(
                places, [clean, *(bank[row] for bank in samples.values())], strict=True
            ):
                show_image(place, image)
                for spine in place.spines.values():  # or a white image would look like none
                    spine.set(visible=True, color=FRAME, linewidth=0.5)
            name = data.classes[int(split.labels[row])]
            places[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8)
        for place, name in zip(axes[0], ["clean", *samples], strict=True):
            place.set_title(name, fontsize=9)
    return (
        f"Training images of data set {canvas.study.find_name(key)} and what the banks "
        f"{', '.join(samples)} hold in their place: the first n = {len(rows)} images that all of "
        "them have, those first in which they differ; one seed."
        + (
            f" Left out, of other images or without pixels: {', '.join(left_out)}."
            if left_out
            else ""
        )
    )
