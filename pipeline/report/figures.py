"""The report's figures: samples of a bank, accuracy against radius, training curves, costs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.artifact_tables import parts, total
from pipeline.report.attack_labels import format_attack
from pipeline.report.bank_samples import Specimen
from pipeline.report.outcomes import CLEAN, Group, Study, curves
from pipeline.report.tables import amount
from pipeline.store.artifact import read_json, replacing

REVISION = 4

LOOKS = {  # colours (Okabe and Ito's and Tol's wine; greys), dashes of the first and second round
    "student": (
        ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255"),
        ("-", (0, (1, 1.2))),
    ),
    "teacher": (("#000000", "#6b6b6b", "#a3a3a3"), ((0, (5, 2)), (0, (5, 1.5, 1, 1.5)))),
}
BAR = "#5b7c99"
STYLE = {
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
LOGGED = ("epoch", "lr", "cosine")  # numbers of a training record that are no losses
COLUMNS = 5
GAIN = 10


@contextmanager
def drawing(path: Path, width: float, height: float) -> Iterator[Figure]:
    """A figure of a size in inches, saved atomically; equal figures are equal bytes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure
        with replacing(path) as temporary:
            figure.savefig(temporary, format="png", metadata={"Software": None})


Look = tuple[str, object]  # colour and dashes


def looks(groups: Sequence[Group]) -> dict[tuple[str, str], Look]:
    """Colour and dashes by kind and name, the same in every figure: only students are solid."""
    found = {}
    for kind, (colours, dashes) in LOOKS.items():
        names = [group.name for group in groups if group.kind == kind]
        for place, name in enumerate(names):
            turn, colour = divmod(place, len(colours))
            found[kind, name] = (colours[colour], dashes[turn % len(dashes)])
    return found


def samples(path: Path, specimens: Sequence[Specimen]) -> None:
    """One row a specimen: x, Q(x), Q(x') and ten times the difference of the last two."""
    heads = ("x", "Q(x)", "Q(x′)", f"change × {GAIN}")
    with drawing(path, 6.4, 0.3 + 1.2 * len(specimens)) as figure:
        axes = figure.subplots(len(specimens), len(heads), squeeze=False)
        for row, one in zip(axes, specimens, strict=True):
            change = np.clip(GAIN * abs(one.stored - one.quantised), 0, 1)
            images = (one.clean, one.quantised, one.stored, change)
            for place, image in zip(row, images, strict=True):
                show(place, image)
            row[0].set_ylabel(one.caption, rotation=0, ha="right", va="center", labelpad=8)
        for place, head in zip(axes[0], heads, strict=True):
            place.set_title(head, fontsize=10)


def show(axes: Axes, image: np.ndarray) -> None:
    """An image (C,H,W) in [0,1] without axes, its pixels left square."""
    axes.imshow(image.transpose(1, 2, 0).squeeze(), cmap="gray", vmin=0, vmax=1)
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def accuracy_curves(path: Path, study: Study) -> None:
    """Accuracy against radius, a panel an attack, a line a group, intervals shaded."""
    groups, styles = study.evaluated, looks(study.groups)
    attacks = curves(groups)
    with drawing(path, 2.6 + 5.0 * len(attacks), 4.6) as figure:
        panels = figure.subplots(1, len(attacks), squeeze=False, sharey=True)[0]
        for axes, (attack, radii) in zip(panels, attacks.items(), strict=True):
            for group in groups:
                line(axes, group, attack, radii, styles[group.kind, group.name])
            axes.set(title=format_attack(attack), xlabel="eps (1/255)", ylim=(0, None))
            axes.set_xticks(sorted({0.0, *(round(255 * eps, 2) for eps in radii)}))
        panels[0].set_ylabel("accuracy (%)")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", frameon=False, handlelength=3)


def line(
    axes: Axes, group: Group, attack: AttackPoint, radii: Sequence[float], style: Look
) -> None:
    """One group's curve with its shaded interval, at the radii that it was measured at."""
    estimates = {eps: group.estimate((replace(attack, eps=eps),)) for eps in radii}
    if CLEAN in group.points and estimates.get(0.0) is None:
        estimates = {0.0: group.estimate((CLEAN,)), **estimates}
    found = {eps: e for eps, e in estimates.items() if e is not None}
    colour, dash = style
    x = [255 * eps for eps in found]
    ends = np.array([[e.low, e.high] for e in found.values()]).clip(0, 1).T * 100
    name = group.name if group.kind == "student" else f"{group.name} (teacher)"
    axes.fill_between(x, *ends, color=colour, alpha=0.1, lw=0)
    y = [100 * e.value for e in found.values()]
    axes.plot(x, y, color=colour, linestyle=dash, marker="o", markersize=3.5, lw=1.6, label=name)


def histories(group: Group) -> list[list[dict]]:
    """The training records of a group's members, one list of epochs each."""
    paths = [m.path("history.json") for m in group.members if "history.json" in m.manifest.files]
    return [read_json(path, "make the artefact again")["epochs"] for path in paths]


def training_curves(path: Path, study: Study) -> None:
    """Small multiples: above each group's total loss, below its validation accuracy."""
    styles = looks(study.groups)
    shown = [group for group in study.groups if histories(group)]
    bands = -(-len(shown) // COLUMNS)
    width = min(len(shown), COLUMNS)
    with drawing(path, 0.7 + 2.0 * width, 3.6 * bands) as figure:
        axes = figure.subplots(2 * bands, width, squeeze=False)
        top = max((v for g in shown for h in histories(g) for v in accuracies(h)), default=100)
        for place, group in enumerate(shown):
            band, column = divmod(place, width)
            colour, _ = styles[group.kind, group.name]
            pair = (axes[2 * band][column], axes[2 * band + 1][column])
            panel(pair, histories(group), colour, top)
            role = "" if group.kind == "student" else " (teacher)"
            pair[0].set_title(group.name + role, fontsize=9)
            if column == 0:
                pair[0].set_ylabel("training loss", fontsize=9)
                pair[1].set_ylabel("validation (%)", fontsize=9)
        for place in range(len(shown), bands * width):
            band, column = divmod(place, width)
            axes[2 * band][column].set_visible(False)
            axes[2 * band + 1][column].set_visible(False)


def with_cosines(study: Study) -> list[Group]:
    """The groups whose two gradients were compared while they trained (DERD)."""
    return [g for g in study.groups if any("cosine" in r for h in histories(g) for r in h)]


def cosine_curves(path: Path, study: Study) -> None:
    """Each epoch's mean cosine of the two teachers' gradients, a line a seed (DERD, Fig. 5)."""
    styles = looks(study.groups)
    with drawing(path, 6.4, 3.4) as figure:
        axes = figure.subplots()
        for group in with_cosines(study):
            colour, dash = styles[group.kind, group.name]
            for place, history in enumerate(histories(group)):
                x, y = zip(*((r["epoch"], r["cosine"]) for r in history), strict=True)
                label = None if place else group.name
                mark = {"marker": "o", "markersize": 3, "lw": 1.3, "color": colour}
                axes.plot(x, y, linestyle=dash, label=label, **mark)
        axes.axhline(0, color="black", lw=0.8)
        axes.set(xlabel="epoch", ylabel="cosine of the gradients", ylim=(-1, 1))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(loc="outside right upper", frameon=False)


def accuracies(history: Sequence[dict]) -> list[float]:
    """Clean validation accuracy by epoch in percent; empty without a validation split."""
    return [100 * record["val_clean"] for record in history if "val_clean" in record]


def losses(history: Sequence[dict]) -> list[float]:
    """The sum of a training's loss terms by epoch."""
    return [
        sum(v for k, v in record.items() if k not in LOGGED and not k.startswith("val"))
        for record in history
    ]


def panel(pair: tuple[Axes, Axes], trained: list[list[dict]], colour: str, top: float) -> None:
    """Loss above, validation accuracy below, one line a seed."""
    mark = {"marker": "o", "markersize": 3, "lw": 1.3, "color": colour}
    for history in trained:
        epochs = [record["epoch"] for record in history]
        pair[0].plot(epochs, losses(history), **mark)
        if accuracies(history):
            pair[1].plot(epochs, accuracies(history), **mark)
    if not any(accuracies(history) for history in trained):
        pair[1].annotate("no validation", (0.5, 0.5), xycoords="axes fraction", ha="center")
    pair[1].set(ylim=(0, 1.05 * top + 1e-9), xlabel="epoch")
    for axes in pair:
        axes.tick_params(labelsize=8)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4, integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, max(len(h) for h in trained) + 0.5)


def cost_bars(path: Path, study: Study) -> None:
    """CPU-seconds of each artefact as bars in order of the graph; evaluations by suite."""
    bars = [
        (f"{kind} {name}", total(artifacts)["cpu_seconds"])
        for (kind, name), artifacts in parts(study).items()
    ]
    with drawing(path, 8.0, 0.9 + 0.24 * len(bars)) as figure:
        axes = figure.subplots()
        labels, seconds = zip(*bars, strict=True)
        drawn = axes.barh(labels, seconds, color=BAR)
        axes.bar_label(drawn, [amount(s) for s in seconds], padding=3, fontsize=9)
        axes.invert_yaxis()
        axes.margins(x=0.1, y=0.01)
        axes.grid(False, axis="y")
        axes.set_xlabel("CPU-seconds")
