"""The report's section of the papers' figures: which there are, and what each needs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.suites import ReportSpec
from pipeline.report.distance_study import DistancePoint
from pipeline.report.figure_files import FIGURES_FOLDER
from pipeline.report.outcomes import Study
from pipeline.report.paper_figures import (
    bank_rows,
    cosine,
    grad_cam,
    landscape,
    path_accuracy,
    radius,
    shift_distances,
    training_radius,
)
from pipeline.report.paper_figures.canvas import Canvas
from pipeline.report.tables import format_caption

REVISION = 1


@dataclass(frozen=True)
class PaperFigure:
    """A figure of a paper.

    Attributes:
        title: its place in the paper, and what it shows.
        draw: draws it and returns its caption, which is empty if there is nothing to draw.
        needs: what a configuration must have for it.
    """

    title: str
    draw: Callable[[Canvas], str]
    needs: str


PAPER_FIGURES = {
    "adaad.2": PaperFigure(
        "AdaAD, Figure 2: accuracy over the radius of training",
        training_radius.draw_training_radii,
        "evaluated students that differ in their objective's `eps` alone",
    ),
    "adaad.3": PaperFigure(
        "AdaAD, Figure 3: loss over a change of the weights",
        landscape.draw_landscapes,
        "a student with images; `keep_epochs` of its recipe gives more curves",
    ),
    "darwin.3a": PaperFigure(
        "DARWIN, Figure 3a: accuracy along an attack's path",
        path_accuracy.draw_path_accuracies,
        "a student with images",
    ),
    "darwin.3b": PaperFigure(
        "DARWIN, Figure 3b: AutoAttack over radii",
        radius.draw_autoattack_curves,
        "a suite with `autoattack` at two radii or more",
    ),
    "darwin.4": PaperFigure(
        "DARWIN, Figure 4: Grad-CAM of teachers and students",
        grad_cam.draw_attention,
        "a convolutional student with images",
    ),
    "derd.5": PaperFigure(
        "DERD, Figure 5: cosine of the two teachers' gradients",
        cosine.draw_cosines,
        "a student of the objective `derd`",
    ),
    "dad.2": PaperFigure(
        "DAD, Figure 2: accuracy against Wasserstein distance",
        shift_distances.draw_distances,
        "`report.wasserstein`, and a suite with `corruptions` or with a `dataset`",
    ),
    "dad.3": PaperFigure(
        "DAD, Figure 3: samples of the banks",
        bank_rows.draw_bank_rows,
        "a bank of samples, not of tokens alone",
    ),
}


def add_figures(
    folder: Path, study: Study, spec: ReportSpec, spots: Sequence[DistancePoint] = ()
) -> tuple[list[str], list[str]]:
    """Draw the asked figures into a report's folder; the section's Markdown and the files' names.

    Both are empty if no figure is asked for. ``spots`` are the points of the study of distances.
    """
    parts, files = ["## Figures of the papers"] if spec.figures else [], []
    for name in spec.figures:
        paper_figure, canvas = PAPER_FIGURES[name], Canvas(folder, name, study, spec, spots)
        (folder / FIGURES_FOLDER).mkdir(exist_ok=True)
        parts.append(f"### {paper_figure.title}")
        if caption := paper_figure.draw(canvas):
            parts += [f"![{paper_figure.title}]({canvas.files[0]})", format_caption(caption)]
            files += canvas.files
        else:
            parts.append(f"Not drawn: it needs {paper_figure.needs}.")
    return parts, files
