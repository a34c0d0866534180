"""The report's figures: samples of a bank, accuracy against eps, training curves, costs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.artefact_tables import group_artefacts, sum_costs
from pipeline.report.attack_labels import format_attack, format_axis, scale_for_axis
from pipeline.report.bank_samples import BankSample
from pipeline.report.outcomes import CLEAN_POINT, ModelGroup, Study, find_accuracy_curves
from pipeline.report.tables import format_amount
from pipeline.store.artefact import read_json, write_atomically

REVISION = 8

# Colours (Okabe and Ito's and Tol's wine; greys); the second dashes serve once colours repeat.
LINE_STYLES = {
    "student": (
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255"),
        ("-", (0, (1, 1.2))),
    ),
    "teacher": (("#000000", "#6b6b6b", "#a3a3a3"), ((0, (5, 2)), (0, (5, 1.5, 1, 1.5)))),
}
BAR_COLOUR = "#5b7c99"
RC_PARAMS = {
    "font.size": 10,
    "font.family": ["DejaVu Sans"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "figure.facecolor": "white",
    "savefig.dpi": 140,
}
NON_LOSS_FIELDS = ("epoch", "lr", "cosine")  # numbers in a training record that are not losses
PANEL_COLUMNS = 5
MOST_PANELS = 20  # pairs of panels of the training curves
CHANGE_GAIN = 8
GRID_COLUMNS, GRID_INCHES = 4, 2.7


@contextmanager
def open_figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Yields a figure (sizes in inches) and saves it atomically; equal figures have equal bytes."""
    with matplotlib.rc_context(RC_PARAMS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with write_atomically(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


LineStyle = tuple[str, object]  # colour and dashes


def assign_line_styles(groups: Sequence[ModelGroup]) -> dict[tuple[str, str], LineStyle]:
    """Colour and dashes by kind and name, the same in all figures; only students are solid."""
    found = {}
    for kind, (colours, dashes) in LINE_STYLES.items():
        names = [group.name for group in groups if group.kind == kind]
        for position, name in enumerate(names):
            dash_index, colour = divmod(position, len(colours))
            found[kind, name] = (colours[colour], dashes[dash_index % len(dashes)])
    return found


def draw_bank_samples(path: Path, bank_samples: Sequence[BankSample]) -> None:
    """Draw one row for each sample: clean, Q(x) if there is one, adversarial, and the change.

    Rows of several banks name theirs; a bank without a discretizer has no image under Q(x).
    """
    is_quantised = any(sample.reconstruction is not None for sample in bank_samples)
    has_banks = len({sample.bank for sample in bank_samples}) > 1
    heads = ["clean", *(["Q(x)"] if is_quantised else []), "adversarial"]
    heads.append(f"difference × {CHANGE_GAIN}")
    with open_figure(path, 2.2 + 1.2 * len(heads), 0.3 + 1.2 * len(bank_samples)) as figure:
        axes = figure.subplots(len(bank_samples), len(heads), squeeze=False)
        for row, sample in zip(axes, bank_samples, strict=True):
            quantised = sample.reconstruction
            change = abs(sample.stored - (sample.clean if quantised is None else quantised))
            images = [sample.clean, *([quantised] if is_quantised else []), sample.stored]
            images.append(np.clip(CHANGE_GAIN * change, 0, 1))
            for place, image in zip(row, images, strict=True):
                if image is None:
                    place.set_axis_off()
                else:
                    show_image(place, image)
            label = f"bank: {sample.bank}\n{sample.caption}" if has_banks else sample.caption
            row[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=8)
        for place, head in zip(axes[0], heads, strict=True):
            place.set_title(head, fontsize=10)


def draw_image_grids(path: Path, grids: Mapping[str, Path]) -> None:
    """Draw image files beside each other, each under its name."""
    width = min(len(grids), GRID_COLUMNS)
    height = -(-len(grids) // width)
    pictures = {name: read_image(file) for name, file in grids.items()}
    tallest = max(image.shape[1] / image.shape[2] for image in pictures.values())
    with open_figure(path, GRID_INCHES * width, (GRID_INCHES * tallest + 0.3) * height) as figure:
        places = figure.subplots(height, width, squeeze=False).ravel()
        for place in places[len(grids) :]:
            place.set_visible(False)
        for place, (name, image) in zip(places, pictures.items(), strict=False):
            show_image(place, image)
            place.set_title(name, fontsize=10)


def read_image(path: Path) -> np.ndarray:
    """An image file as an array (3,H,W) in [0,1]."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / 255


def show_image(axes: Axes, image: np.ndarray) -> None:
    """Show an image (C,H,W) in [0,1] without axes, with square pixels."""
    axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_accuracy_curves(path: Path, study: Study) -> None:
    """Draw accuracy against eps: one panel for each attack, one line for each model."""
    groups, styles = study.evaluated_groups, assign_line_styles(study.groups)
    attacks = find_accuracy_curves(groups)
    with open_figure(path, 2.6 + 5.0 * len(attacks), 4.6) as figure:
        panels = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
        for axes, (attack, radii) in zip(panels, attacks.items(), strict=True):
            for group in groups:
                plot_accuracy_curve(axes, group, attack, radii, styles[group.kind, group.name])
            axes.set(title=format_attack(attack), xlabel=format_axis(attack), ylim=(0, None))
            ticks = {round(scale_for_axis(attack, eps), 2) for eps in radii}
            axes.set_xticks(sorted({0.0, *ticks}))
        panels[0].set_ylabel("accuracy (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3)


def plot_accuracy_curve(
    axes: Axes, group: ModelGroup, attack: AttackPoint, radii: Sequence[float], style: LineStyle
) -> None:
    """Plot one model's curve and shaded interval, broken at radii at which it was not measured."""
    estimates = {eps: group.estimate_accuracy((replace(attack, eps=eps),)) for eps in radii}
    if CLEAN_POINT in group.common_points and estimates.get(0.0) is None:
        estimates = {0.0: group.estimate_accuracy((CLEAN_POINT,)), **estimates}
    numbers = [(np.nan,) * 3 if e is None else (e.low, e.high, e.value) for e in estimates.values()]
    colour, dash = style
    x = [scale_for_axis(attack, eps) for eps in estimates]
    *ends, y = np.array(numbers).clip(0, 1).T * 100
    name = group.name if group.kind == "student" else f"{group.name} (teacher)"
    axes.fill_between(x, *ends, color=colour, alpha=0.1, lw=0)
    axes.plot(x, y, color=colour, linestyle=dash, marker="o", markersize=3.5, lw=1.6, label=name)


def read_histories(group: ModelGroup) -> list[list[dict]]:
    """The training records of a group's members: one list of epochs for each member."""
    paths = [
        m.get_verified_path("history.json")
        for m in group.members
        if "history.json" in m.manifest.files
    ]
    return [read_json(path, "make the artefact again")["epochs"] for path in paths]


def draw_training_curves(path: Path, study: Study) -> None:
    """Draw two small panels for each group: total loss above, validation accuracy below.

    Beyond `MOST_PANELS` groups all share one pair of panels, since none could be read.
    """
    styles = assign_line_styles(study.groups)
    trained = [(group, found) for group in study.groups if (found := read_histories(group))]
    shared = len(trained) > MOST_PANELS
    places = [trained] if shared else [[pair] for pair in trained]
    bands, width = -(-len(places) // PANEL_COLUMNS), min(len(places), PANEL_COLUMNS)
    accuracies = [list_validation_accuracies(h) for _, found in trained for h in found]
    max_accuracy = max((v for values in accuracies for v in values), default=100)
    with open_figure(path, 6.4 if shared else 0.7 + 2.0 * width, 3.6 * bands) as figure:
        axes = figure.subplots(2 * bands, width, squeeze=False)
        for place, pairs in enumerate(places):
            band, column = divmod(place, width)
            axes_pair = (axes[2 * band][column], axes[2 * band + 1][column])
            for group, histories in pairs:
                colour, _ = styles[group.kind, group.name]
                plot_training_panel(axes_pair, histories, colour, max_accuracy)
            axes_pair[0].set_title(name_panel([group for group, _ in pairs]), fontsize=9)
            if column == 0:
                axes_pair[0].set_ylabel("training loss", fontsize=9)
                axes_pair[1].set_ylabel("validation (%)", fontsize=9)
        for place in range(len(places), bands * width):
            band, column = divmod(place, width)
            axes[2 * band][column].set_visible(False)
            axes[2 * band + 1][column].set_visible(False)


def name_panel(groups: Sequence[ModelGroup]) -> str:
    """The title of a pair of panels: the model's name, or how many share it."""
    if len(groups) > 1:
        return f"{len(groups)} models"
    return groups[0].name + ("" if groups[0].kind == "student" else " (teacher)")


def find_groups_with_cosines(study: Study) -> list[ModelGroup]:
    """The groups whose training recorded the cosine of two gradients (DERD)."""
    return [g for g in study.groups if any("cosine" in r for h in read_histories(g) for r in h)]


def draw_cosine_curves(path: Path, study: Study) -> None:
    """Draw the epochs' mean cosine of both teachers' gradients, a line a seed (DERD, Fig. 5)."""
    styles = assign_line_styles(study.groups)
    with open_figure(path, 6.4, 3.4) as figure:
        axes = figure.subplots()
        for group in find_groups_with_cosines(study):
            colour, dash = styles[group.kind, group.name]
            for place, history in enumerate(read_histories(group)):
                x, y = zip(*((r["epoch"], r["cosine"]) for r in history), strict=True)
                label = None if place else group.name
                line_format = {"marker": "o", "markersize": 3, "lw": 1.3, "color": colour}
                axes.plot(x, y, linestyle=dash, label=label, **line_format)
        axes.axhline(0, color="black", lw=0.8)
        axes.set(xlabel="epoch", ylabel="cosine of the gradients", ylim=(-1, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(loc="outside right upper", frameon=False)


def list_validation_accuracies(history: Sequence[dict]) -> list[float]:
    """Clean validation accuracy of each epoch in percent; empty without a validation split."""
    return [100 * record["val_clean"] for record in history if "val_clean" in record]


def sum_losses(history: Sequence[dict]) -> list[float]:
    """The sum of the loss terms of each epoch."""
    return [
        sum(v for k, v in record.items() if k not in NON_LOSS_FIELDS and not k.startswith("val"))
        for record in history
    ]


def plot_training_panel(
    axes_pair: tuple[Axes, Axes], seed_histories: list[list[dict]], colour: str, max_accuracy: float
) -> None:
    """Plot loss above and validation accuracy below, with one line for each seed."""
    line_format = {"marker": "o", "markersize": 3, "lw": 1.3, "color": colour}
    for history in seed_histories:
        epochs = [record["epoch"] for record in history]
        axes_pair[0].plot(epochs, sum_losses(history), **line_format)
        if list_validation_accuracies(history):
            axes_pair[1].plot(epochs, list_validation_accuracies(history), **line_format)
    if not any(list_validation_accuracies(history) for history in seed_histories):
        axes_pair[1].annotate("no validation", (0.5, 0.5), xycoords="axes fraction", ha="center")
    axes_pair[1].set(ylim=(0, 1.05 * max_accuracy + 1e-9), xlabel="epoch")
    for axes in axes_pair:
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
        longest = max(len(h) for h in seed_histories)
        axes.set_xlim(0.5, max(axes.get_xlim()[1], longest + 0.5))


def draw_cost_bars(path: Path, study: Study) -> None:
    """Draw CPU-seconds of each artefact as bars in the order of the kinds; evaluations by suite."""
    bars = [
        (f"{kind} {name}", sum_costs(artefacts)["cpu_seconds"])
        for (kind, name), artefacts in group_artefacts(study).items()
    ]
    with open_figure(path, 8.0, 0.9 + 0.24 * len(bars)) as figure:
        axes = figure.subplots()
        labels, seconds = zip(*bars, strict=True)
        drawn = axes.barh(labels, seconds, color=BAR_COLOUR)
        axes.bar_label(drawn, [format_amount(s) for s in seconds], padding=3, fontsize=9)
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.01)
        axes.grid(False, axis="y")
        axes.set_xlabel("CPU-seconds")
