"""The cosine of the gradients of DERD's two teachers over training (DERD, Fig. 5)."""

import numpy as np
from matplotlib.ticker import MaxNLocator

from pipeline.config.specs import get_spec
from pipeline.report.figures import read_histories
from pipeline.report.outcomes import ModelGroup, Study
from pipeline.report.paper_figures.canvas import (
    Canvas,
    describe_counts,
    describe_seeds,
    make_line_formats,
)
from pipeline.store.artefact import Artefact

REVISION = 2

Series = tuple[list[int], np.ndarray]  # epochs, and the cosines (S,E) of each seed


def collect_cosines(study: Study) -> list[tuple[ModelGroup, Series]]:
    """Each group whose training recorded cosines: the epochs of all seeds, and their values."""
    found = []
    for group in study.groups:
        seeds = [
            {r["epoch"]: r["cosine"] for r in h if "cosine" in r} for h in read_histories(group)
        ]
        epochs = sorted(set.intersection(*map(set, seeds))) if seeds else []
        if epochs:
            found.append((group, (epochs, np.array([[s[e] for e in epochs] for s in seeds]))))
    return found


def count_steps(study: Study, student: Artefact) -> int:
    """The number of steps in an epoch of a student's training."""
    spec, inputs = get_spec(student.manifest), student.manifest.inputs
    if (key := inputs.get("generator")) is not None:
        generator = get_spec(study.artefacts[f"generator/{key}"].manifest)
        return spec.sampling.steps_per_epoch or generator.steps_per_epoch
    counts = study.artefacts[f"dataset/{inputs['dataset']}"].manifest.facts["counts"]
    return counts["train"] // spec.recipe.batch


def draw_cosines(canvas: Canvas) -> str:
    """Draw the mean cosine of each epoch, shaded from the lowest to the highest seed."""
    found, formats = collect_cosines(canvas.study), make_line_formats(canvas.study)
    if not found:
        return ""
    with canvas.open_figure(6.4, 3.6) as figure:
        axes = figure.subplots()
        for group, (epochs, cosines) in found:
            line_format = formats[group.kind, group.name]
            ends = cosines.min(0), cosines.max(0)
            axes.fill_between(epochs, *ends, color=line_format["color"], alpha=0.15, lw=0)
            every = max(1, len(epochs) // 12)
            axes.plot(epochs, cosines.mean(0), label=group.name, markevery=every, **line_format)
        axes.axhline(0, color="black", lw=0.8)
        axes.set(xlabel="epoch", ylabel="cosine of the gradients")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        figure.legend(loc="outside right upper", frameon=False)
    lengths = sorted({len(epochs) for _, (epochs, _) in found})
    steps = [count_steps(canvas.study, group.members[0]) for group, _ in found]
    return (
        "Cosine of the gradients of the natural and the robust teacher's terms with respect to the "
        "student's weights, before they are harmonised: mean over an epoch's "
        f"{describe_counts(steps)} steps. Below zero they pull against each other. Line: mean over "
        "seeds; shaded: lowest to highest seed. "
        f"{describe_seeds([group for group, _ in found])}, "
        f"{' or '.join(map(str, lengths))} epochs."
    )
