"""Which figures a report has, their PNG files below its folder, and what is said under each."""

from dataclasses import dataclass
from pathlib import Path

from pipeline.report import figures
from pipeline.report.bank_samples import choose_bank_samples
from pipeline.report.outcomes import Study, find_accuracy_curves

REVISION = 2

FIGURES_FOLDER = "figures"


@dataclass(frozen=True)
class FigureFile:
    """A figure of the report.

    Attributes:
        kind: what it shows: samples, generator, curves, training, cosine or cost.
        title: a short heading.
        file: its PNG file, below the report's folder.
        caption: what it shows, in sentences.
    """

    kind: str
    title: str
    file: str
    caption: str

    @property
    def has_pixels(self) -> bool:
        """Whether it shows images, which no chart can."""
        return self.kind in ("samples", "generator")


CAPTIONS = {
    "curves": "Accuracy against the radius of the attack; shaded: 95 % intervals as in the main "
    "table. Students are solid, teachers dashed.",
    "training": "Training of students and teachers, one line a seed: sum of the loss terms, whose "
    "scales differ between objectives, and clean accuracy on the validation split.",
    "cosine": "Cosine of the two teachers' gradients in DERD's students, mean of each epoch: below "
    "zero they pull against each other.",
    "cost": "CPU-seconds of each artefact, all attempts added up; evaluations by suite.",
}


def draw_figures(folder: Path, study: Study, sample_count: int) -> list[FigureFile]:
    """Draw every figure that the study has data for, below a report's folder."""
    (folder / FIGURES_FOLDER).mkdir(exist_ok=True)
    found = [*draw_samples(folder, study, sample_count), *draw_generators(folder, study)]
    has_histories = any(figures.read_histories(group) for group in study.groups)
    for kind, name, is_wanted, draw in (
        (
            "curves",
            "accuracy",
            find_accuracy_curves(study.evaluated_groups),
            figures.draw_accuracy_curves,
        ),
        ("training", "training", has_histories, figures.draw_training_curves),
        ("cosine", "cosine", figures.find_groups_with_cosines(study), figures.draw_cosine_curves),
        ("cost", "cost", study.artefacts, figures.draw_cost_bars),
    ):
        if is_wanted:
            file = f"{FIGURES_FOLDER}/{name}.png"
            draw(folder / file, study)
            found.append(FigureFile(kind, kind, file, CAPTIONS[kind]))
    return found


def draw_samples(folder: Path, study: Study, count: int) -> list[FigureFile]:
    """Draw samples of all banks in one figure, if there are any to show."""
    banks = study.get_artefacts("bank")
    each = max(1, count // max(1, len(banks)))
    chosen = [
        s for name, bank in banks.items() for s in choose_bank_samples(study, name, bank, each)
    ]
    if not chosen:
        return []
    file = f"{FIGURES_FOLDER}/samples.png"
    figures.draw_bank_samples(folder / file, chosen)
    names = ", ".join(dict.fromkeys(sample.bank for sample in chosen))
    quantised = (
        " Q(x) is what the discretiser makes of the image; the difference is taken from it, or "
        "from the clean image where a bank has none."
        if any(sample.reconstruction is not None for sample in chosen)
        else ""
    )
    caption = (
        f"Samples of bank {names}: the clean image, the adversarial one, and their difference "
        f"times {figures.CHANGE_GAIN}; beside it the label and the teacher's verdict on the "
        f"adversarial image.{quantised}"
    )
    return [FigureFile("samples", f"Bank {names}", file, caption)]


def draw_generators(folder: Path, study: Study) -> list[FigureFile]:
    """Draw each generator's image grids side by side, in training order."""
    found = []
    for name, generator in study.get_artefacts("generator").items():
        grids = {}
        for file in sorted(f for f in generator.manifest.files if f.startswith("samples")):
            epoch = file.removeprefix("samples").removesuffix(".png")
            grids[f"epoch {int(epoch[1:])}" if epoch else "end"] = generator.get_verified_path(file)
        if "end" in grids:  # sorted before the others, trained after them
            grids["end"] = grids.pop("end")
        if grids:
            file = f"{FIGURES_FOLDER}/generator-{name}.png"
            figures.draw_image_grids(folder / file, grids)
            caption = f"Images from generator {name}, which saw no data: {', '.join(grids)}."
            found.append(FigureFile("generator", f"Generator {name}", file, caption))
    return found
