"""Accuracy along one attack path of each image (DARWIN, Fig. 3a).

The untargeted path climbs CE(S(z), y) from x + 0.001 N(0, I); the targeted one descends it from
x' + 0.001 N(0, I), x' being another test image, of a class y' other than y (eq. 6, Algorithm 1).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.losses import cross_entropy
from pipeline.core.pairing import pair_different_labels
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import Linf
from pipeline.report.outcomes import ModelGroup
from pipeline.report.paper_figures.canvas import (
    Canvas,
    describe_counts,
    describe_seeds,
    find_test_data,
    list_shown_groups,
    load_network,
    make_line_formats,
    predict_correctness,
    read_test_images,
)

REVISION = 1

EPS, STEP = 8 / 255, 1 / 255
FIRST_INDEX, LAST_INDEX = 6, 14  # the samples that the paper shows
BATCH_SIZE = 250


@dataclass(frozen=True)
class PathAccuracy:
    """One group's accuracies (S,I) in [0,1] by seed and index, of both paths, and their images."""

    group: ModelGroup
    untargeted: np.ndarray
    targeted: np.ndarray
    image_count: int
    pair_count: int


def trace_path(
    network: nn.Module, x: Tensor, guide: Tensor, own: Tensor, sign: int, rng: torch.Generator
) -> Tensor:
    """Whether samples 6 to 14 (I,B) of one path an image x (B,C,H,W) keep their label own (B,).

    The path climbs (``sign`` +1) or descends (-1) the cross-entropy of the labels ``guide`` (B,).
    """
    samples: list[Tensor] = []
    with freeze_modules(network):
        run_pgd(
            x,
            lambda z: cross_entropy(network(z), guide),
            Linf(EPS),
            steps=LAST_INDEX,
            step_size=STEP,
            start="gauss",
            rng=rng,
            sign=sign,
            iterates=samples,
        )
    shown = samples[FIRST_INDEX - 1 :]
    return torch.stack([predict_correctness(network, z, own) for z in shown])


def measure_paths(network: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Correctness (I,N) of the untargeted paths, and (I,M) of the targeted ones.

    M counts the images that have a partner of another class.
    """
    rng = make_generator("paper figure", "path")
    partner, is_apart = pair_different_labels(y, rng)
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for rows in torch.arange(len(y)).split(BATCH_SIZE):
        found[0].append(trace_path(network, x[rows], y[rows], y[rows], +1, rng))
        if len(paired := rows[is_apart[rows]]):
            other = partner[paired]
            found[1].append(trace_path(network, x[other], y[paired], y[other], -1, rng))
    empty = torch.zeros(LAST_INDEX - FIRST_INDEX + 1, 0, dtype=torch.bool)
    return torch.cat(found[0], 1), torch.cat(found[1] or [empty], 1)


def collect_path_accuracies(canvas: Canvas) -> list[PathAccuracy]:
    """Both paths' accuracies of every student that has test images."""
    rows = []
    for group in list_shown_groups(canvas):
        key = find_test_data(canvas.study, group.members[0])
        if key is None:
            continue
        x, y = read_test_images(canvas.study, key, canvas.spec.figure_images)
        parts = [measure_paths(load_network(member), x, y) for member in group.members]
        untargeted, targeted = (
            np.stack([part[place].double().mean(1).numpy() for part in parts]) for place in (0, 1)
        )
        rows.append(PathAccuracy(group, untargeted, targeted, len(y), parts[0][1].shape[1]))
    return rows


def draw_path_accuracies(canvas: Canvas) -> str:
    """Draw accuracy over the index of the sample, a panel for each path."""
    rows, formats = collect_path_accuracies(canvas), make_line_formats(canvas.study)
    if not rows:
        return ""
    indices = range(FIRST_INDEX, LAST_INDEX + 1)
    with canvas.open_figure(10.2, 3.8) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, name in zip(panels, ("untargeted", "targeted"), strict=True):
            for row in rows:
                values = 100 * getattr(row, name)
                line_format = formats[row.group.kind, row.group.name]
                ends = values.min(0), values.max(0)
                axes.fill_between(indices, *ends, color=line_format["color"], alpha=0.15, lw=0)
                axes.plot(indices, values.mean(0), label=row.group.name, **line_format)
            axes.set(title=f"{name} path", xlabel="index of the sample", ylim=(0, None))
        panels[0].set_ylabel("accuracy (%)")
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False
        )
    return (
        "Accuracy on the samples 6 to 14 of one path for each image: steps of 1/255 in the "
        "L-infinity ball at 8/255. Left: up CE(S(z), y) from x + 0.001 N(0, I), scored by y. "
        "Right: down CE(S(z), y) from x' + 0.001 N(0, I), x' a test image of another class y', "
        f"scored by y'. {describe_counts([r.image_count for r in rows])} test images (right: "
        f"{describe_counts([r.pair_count for r in rows])}), "
        f"{describe_seeds([r.group for r in rows])}. Line: mean over seeds; shaded: lowest to "
        "highest seed."
    )
