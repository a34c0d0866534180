"""Where a figure is drawn and saved, and what all of them share: styles, models, captions."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from pipeline.config.suites import ReportSpec
from pipeline.core.images import scale_to_unit_range
from pipeline.data.dataset_artefact import open_dataset
from pipeline.models.classifier import MODEL_FILE
from pipeline.models.loading import load_teacher
from pipeline.report.distance_study import DistancePoint
from pipeline.report.figure_files import FIGURES_FOLDER
from pipeline.report.figures import RC_PARAMS, assign_line_styles
from pipeline.report.outcomes import ModelGroup, Study
from pipeline.store.artefact import Artefact, write_atomically

REVISION = 1

MARKERS = "osD^vP*X<>"  # beside the colours, for whoever cannot tell these apart
METADATA: dict[str, dict] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
FORMATS = tuple(METADATA)


@dataclass(frozen=True)
class Canvas:
    """What a figure is drawn from, and the files that it becomes.

    Attributes:
        folder: the report's folder.
        name: the figure's name in the configuration, such as ``adaad.2``.
        study: all artefacts of the configuration.
        spec: the report's spec.
        spots: the points of the study of distances, if it is asked for.
    """

    folder: Path
    name: str
    study: Study
    spec: ReportSpec
    spots: Sequence[DistancePoint] = ()

    @property
    def files(self) -> list[str]:
        """The figure's files below the report's folder, the PNG first."""
        return [f"{FIGURES_FOLDER}/{self.name}.{end}" for end in FORMATS]

    @contextmanager
    def open_figure(self, width: float, height: float) -> Iterator[Figure]:
        """Yields a figure (sizes in inches) and saves it; equal figures have equal bytes."""
        with matplotlib.rc_context({**RC_PARAMS, "svg.hashsalt": self.name}):
            figure = Figure(figsize=(width, height), layout="constrained")
            yield figure
            for end, file in zip(FORMATS, self.files, strict=True):
                with write_atomically(self.folder / file) as temporary:
                    figure.savefig(temporary, format=end, metadata=METADATA[end])


def make_line_formats(study: Study) -> dict[tuple[str, str], dict]:
    """Colour, dashes and marker of each group, by kind and name; the same in all figures."""
    styles = assign_line_styles(study.groups)
    return {
        key: {
            "color": colour,
            "linestyle": dash,
            "marker": MARKERS[place % len(MARKERS)],
            "markersize": 4,
            "lw": 1.4,
        }
        for place, (key, (colour, dash)) in enumerate(styles.items())
    }


def load_network(model: Artefact, file: str = MODEL_FILE) -> nn.Module:
    """A classifier of the study, or its weights in ``file``, frozen, in eval mode, on the CPU."""
    return load_teacher(model.folder, "cpu", file)


def holds_weights(model: Artefact) -> bool:
    """Whether an artefact has a classifier's file."""
    return MODEL_FILE in model.manifest.files


def list_shown_groups(canvas: Canvas, kind: str = "student") -> list[ModelGroup]:
    """The groups of a kind whose members all have a classifier's file, of those to be shown."""
    study, names = canvas.study, canvas.spec.figure_models
    return [
        group
        for group in (study.group_models(names) if names else study.groups)
        if group.kind == kind and all(map(holds_weights, group.members))
    ]


def find_test_data(study: Study, model: Artefact) -> str | None:
    """The key of the data set that a model was evaluated on, else of its own; None without any."""
    for evaluation in study.get_artefacts("evaluation").values():
        inputs = evaluation.manifest.inputs
        if inputs["model"] == model.manifest.key and not evaluation.manifest.spec.get("shifted"):
            return inputs["dataset"]
    return model.manifest.inputs.get("dataset")


def read_test_images(study: Study, key: str, count: int) -> tuple[Tensor, Tensor]:
    """The first ``count`` test images (N,C,H,W) in [0,1] of a data set, and their labels (N,)."""
    test = open_dataset(study.artefacts[f"dataset/{key}"].folder).read_split("test")
    return scale_to_unit_range(test.images[: min(count, len(test.labels))]), test.labels[:count]


@torch.no_grad()
def predict_correctness(network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Whether each image (B,C,H,W) is classified as y (B,)."""
    return network(x).argmax(1) == y


def describe_seeds(groups: Sequence[ModelGroup]) -> str:
    """How many seeds the groups have: ``1 seed`` or ``1 or 3 seeds``."""
    counts = sorted({len(group.members) for group in groups})
    return f"{' or '.join(map(str, counts))} seed{'' if counts == [1] else 's'}"


def describe_counts(counts: Sequence[int]) -> str:
    """Numbers of images as text: ``n = 200`` or ``n = 200 to 1,000``."""
    low, high = min(counts), max(counts)
    return f"n = {low:,}" + ("" if low == high else f" to {high:,}")
