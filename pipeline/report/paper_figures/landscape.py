"""The adversarial loss over random changes of the weights (AdaAD, Fig. 3).

As in Wu et al. (NeurIPS 2020): directions are Gaussian, each filter has the length of the weights'
own (Li et al., NeurIPS 2018), and the adversarial images are made anew at every point. Biases and
BatchNorms stay as they are.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.losses import cross_entropy
from pipeline.core.pgd import freeze_modules, run_pgd
from pipeline.core.seeding import make_generator
from pipeline.core.threat_models import Linf
from pipeline.models.classifier import MODEL_FILE
from pipeline.report.figures import LINE_STYLES
from pipeline.report.outcomes import ModelGroup
from pipeline.report.paper_figures.canvas import (
    MARKERS,
    Canvas,
    describe_counts,
    find_test_data,
    list_shown_groups,
    load_network,
    read_test_images,
)
from pipeline.store.artefact import Artefact

REVISION = 1

DIRECTION_COUNT = 10
SCALES = tuple(round(-1 + 0.25 * i, 2) for i in range(9))
EPS, STEP, STEPS = 8 / 255, 2 / 255, 10
BATCH_SIZE = 250
PANEL_COLUMNS = 4
EXPORTED = "exported"

Direction = dict[str, Tensor]  # parameter -> its change at scale 1


@dataclass(frozen=True)
class Landscape:
    """A group's losses (D,A) by direction and scale, of each epoch; and the number of images."""

    group: ModelGroup
    losses: dict[str, np.ndarray]
    image_count: int


def draw_direction(network: nn.Module, rng: torch.Generator) -> Direction:
    """A random change of all weights with two dimensions or more, normalised filter by filter."""
    direction = {}
    for name, weight in network.named_parameters():
        if weight.ndim > 1:
            noise = torch.randn(weight.shape, generator=rng, dtype=weight.dtype)
            direction[name] = normalise_filters(noise, weight.detach())
    return direction


def normalise_filters(noise: Tensor, weight: Tensor) -> Tensor:
    """The noise (F,…) with the length of the weight's filter in each of its F filters."""
    lengths = weight.flatten(1).norm(dim=1) / noise.flatten(1).norm(dim=1).clamp_min(1e-12)
    return noise * lengths.view(-1, *[1] * (weight.ndim - 1))


@torch.no_grad()
def trace_loss(
    network: nn.Module, direction: Direction, loss: Callable[[nn.Module], float]
) -> list[float]:
    """The loss at each scale of a direction; the weights are the same again afterwards."""
    parameters = dict(network.named_parameters())
    kept = {name: parameters[name].detach().clone() for name in direction}
    found = []
    for scale in SCALES:
        for name, change in direction.items():
            parameters[name].copy_(kept[name] + scale * change)
        found.append(loss(network))
    for name, weight in kept.items():
        parameters[name].copy_(weight)
    return found


def compute_adversarial_loss(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """Mean cross-entropy on PGD-10 images of x (B,C,H,W), which start from the same noise."""
    rng, total = make_generator("paper figure", "landscape", "attack"), 0.0
    with freeze_modules(network):
        for images, labels in zip(x.split(BATCH_SIZE), y.split(BATCH_SIZE), strict=True):
            loss = lambda z, labels=labels: cross_entropy(network(z), labels)  # noqa: E731
            z = run_pgd(
                images, loss, Linf(EPS), steps=STEPS, step_size=STEP, start="uniform", rng=rng
            )
            with torch.no_grad():
                total += float(loss(z).sum())
    return total / len(y)


def measure_landscape(network: nn.Module, x: Tensor, y: Tensor) -> np.ndarray:
    """Adversarial losses (D,A) of ten directions at every scale."""
    rng = make_generator("paper figure", "landscape")
    directions = [draw_direction(network, rng) for _ in range(DIRECTION_COUNT)]
    loss = lambda changed: compute_adversarial_loss(changed, x, y)  # noqa: E731
    return np.array([trace_loss(network, direction, loss) for direction in directions])


def list_weight_files(model: Artefact) -> dict[str, str]:
    """A model's files of weights by epoch, ascending; the exported ones last."""
    names = [f for f in model.manifest.files if f.startswith("epoch-")]
    numbers = sorted(int(f.removeprefix("epoch-").removesuffix(".safetensors")) for f in names)
    kept = {f"epoch {number}": f"epoch-{number}.safetensors" for number in numbers}
    return kept | {EXPORTED: MODEL_FILE}


def collect_landscapes(canvas: Canvas) -> list[Landscape]:
    """The landscapes of each student's first seed, at its kept epochs and as exported."""
    found = []
    for group in list_shown_groups(canvas):
        member = group.members[0]
        if (key := find_test_data(canvas.study, member)) is not None:
            x, y = read_test_images(canvas.study, key, canvas.spec.figure_images)
            losses = {
                epoch: measure_landscape(load_network(member, file), x, y)
                for epoch, file in list_weight_files(member).items()
            }
            found.append(Landscape(group, losses, len(y)))
    return found


def draw_landscapes(canvas: Canvas) -> str:
    """Draw a panel for each student, and in it a line for each epoch."""
    found, (colours, _) = collect_landscapes(canvas), LINE_STYLES["student"]
    if not found:
        return ""
    width = min(PANEL_COLUMNS, len(found))
    height = -(-len(found) // width)
    with canvas.open_figure(1.4 + 2.7 * width, 0.5 + 2.5 * height) as figure:
        places = figure.subplots(height, width, squeeze=False, sharex=True).ravel()
        for axes in places[len(found) :]:
            axes.set_visible(False)
        for axes, one in zip(places, found, strict=False):
            for place, (epoch, losses) in enumerate(one.losses.items()):
                colour, marker = colours[place % len(colours)], MARKERS[place % len(MARKERS)]
                axes.fill_between(SCALES, losses.min(0), losses.max(0), color=colour, alpha=0.12)
                mean = losses.mean(0)
                axes.plot(
                    SCALES, mean, color=colour, marker=marker, markersize=3, lw=1.4, label=epoch
                )
            axes.set(title=one.group.name, xlabel="scale of the direction")
            axes.legend(fontsize=7, frameon=False)
        places[0].set_ylabel("adversarial loss")
    return (
        "Mean cross-entropy on adversarial images over a change of the weights: "
        f"{DIRECTION_COUNT} random directions, normalised filter by filter; PGD-{STEPS} at 8/255 "
        "with steps of 2/255 is run anew at every point. Line: mean over directions; shaded: "
        f"lowest to highest. {describe_counts([one.image_count for one in found])} test images, "
        "the first seed of each student."
    )
