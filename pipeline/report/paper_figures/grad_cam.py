"""Grad-CAM of teachers beside their students (DARWIN, Fig. 4; Selvaraju et al., ICCV 2017).

The maps are made by the package ``grad-cam``, an optional one.
"""

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from pipeline.errors import RetortError
from pipeline.report.figures import show_image
from pipeline.report.outcomes import ModelGroup
from pipeline.report.paper_figures.canvas import (
    Canvas,
    find_test_data,
    list_shown_groups,
    load_network,
    read_test_images,
)

REVISION = 2
NEEDED_PACKAGE = ("pytorch_grad_cam", "pip install '/path/to/retort[gradcam]'")

MOST_COLUMNS = 9  # models beside the image, unless they are named
HEAT_MAP, HEAT_SHARE = "cividis", 0.55  # readable with every colour vision


def find_target_layer(network: nn.Module, x: Tensor) -> nn.Module | None:
    """The last module whose output on x is a feature map above 1×1; None without any."""
    found: list[nn.Module] = []

    def record(module: nn.Module, inputs: tuple, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
            found.append(module)

    handles = [module.register_forward_hook(record) for module in network.modules()]
    try:
        with torch.no_grad():
            network(x)
    finally:
        for handle in handles:
            handle.remove()
    return found[-1] if found else None


def compute_heat_maps(network: nn.Module, x: Tensor, y: Tensor) -> np.ndarray | None:
    """Heat maps (B,H,W) in [0,1] of images x (B,C,H,W) for the classes y (B,); None without a map.

    Raises:
        RetortError: the package is not installed.
    """
    try:
        from pytorch_grad_cam import GradCAM
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
    except ImportError as error:
        raise RetortError(f"figure darwin.4: needs grad-cam; {NEEDED_PACKAGE[1]}") from error
    if (layer := find_target_layer(network, x[:1])) is None:
        return None
    network.requires_grad_(True)  # the package reads gradients at the layer
    with GradCAM(model=network, target_layers=[layer]) as camera:
        maps = camera(input_tensor=x, targets=[ClassifierOutputTarget(int(c)) for c in y])
    network.requires_grad_(False)
    return np.asarray(maps)


def collect_columns(canvas: Canvas, key: str) -> list[ModelGroup]:
    """Teachers, and then students, whose test images are those of this data set."""
    groups = [
        *list_shown_groups(canvas, "teacher"),
        *list_shown_groups(canvas),
    ]
    return [group for group in groups if find_test_data(canvas.study, group.members[0]) == key]


def draw_attention(canvas: Canvas) -> str:
    """Draw a row for each image: the image, and on it the heat maps of each model."""
    shown = [*list_shown_groups(canvas), *list_shown_groups(canvas, "teacher")]
    keys = [find_test_data(canvas.study, group.members[0]) for group in shown]
    if not (key := next(filter(None, keys), None)):
        return ""
    x, y = read_test_images(canvas.study, key, canvas.spec.samples)
    most = None if canvas.spec.figure_models else MOST_COLUMNS
    maps: dict[str, np.ndarray] = {}
    for group in collect_columns(canvas, key):
        if len(maps) == most:
            break
        found = compute_heat_maps(load_network(group.members[0]), x, y)
        if found is not None:
            maps[group.name + (" (teacher)" if group.kind == "teacher" else "")] = found
    if not maps:
        return ""
    with canvas.open_figure(0.4 + 1.3 * (1 + len(maps)), 0.4 + 1.3 * len(y)) as figure:
        axes = figure.subplots(len(y), 1 + len(maps), squeeze=False)
        for row, image, *heats in zip(axes, x.numpy(), *maps.values(), strict=True):
            show_image(row[0], image)
            for place, heat in zip(row[1:], heats, strict=True):
                show_heat_map(place, image, heat)
        for place, name in zip(axes[0], ["image", *maps], strict=True):
            place.set_title(name, fontsize=8)
    return (
        "Grad-CAM for the image's own class, at the last feature map of each network, from 0 "
        f"(dark) to 1 (bright) in each image. The first n = {len(y)} test images without attack; "
        "the first seed of each model; networks without a feature map are left out"
        + ("." if most is None else f", and models after the first {most}.")
    )


def show_heat_map(axes: Axes, image: np.ndarray, heat: np.ndarray) -> None:
    """Show a heat map (H,W) in [0,1] over the grey image of (C,H,W) in [0,1]."""
    show_image(axes, image.mean(0, keepdims=True))
    axes.imshow(heat, cmap=HEAT_MAP, alpha=HEAT_SHARE, vmin=0, vmax=1)
