"""Doubts about a model that its outputs and its training give, not its accuracies under attack."""

from collections.abc import Iterator

from pipeline.models.output_checks import MOST, OutputChecks
from pipeline.report.outcomes import CLEAN_POINT, Outcome, Study
from pipeline.report.statistics.intervals import wilson_interval
from pipeline.store.artefact import Artefact, read_json

REVISION = 1

VALIDATION_GAP = 0.10  # clean accuracy this far below validation's suggests other preprocessing
TRIAL_GAP = 0.25  # likewise, below that on training images, which a network may know by heart


def read_output_checks(study: Study, model: Artefact) -> list[OutputChecks]:
    """What the evaluations of a model found about its exported weights' outputs."""
    return [
        OutputChecks(**e.manifest.facts["outputs"])
        for e in study.get_artefacts("evaluation").values()
        if e.manifest.inputs["model"] == model.manifest.key and "outputs" in e.manifest.facts
    ]


def find_output_doubts(checks: OutputChecks) -> Iterator[str]:
    """One line for each doubt that a model's outputs on some images give."""
    of = f"of {checks.images} images"
    if checks.form != "logits":
        end = "softmax" if checks.form == "probabilities" else "log-softmax"
        yield (
            f"its outputs are {checks.form}: it ends in {end}, which weakens gradient attacks; "
            "return logits"
        )
    if checks.random > MOST:
        yield (
            f"chance changes its outputs on {100 * checks.random:.0f} % {of}: gradient attacks "
            "need many draws; believe Square and transfer attacks more"
        )
    if not checks.has_gradient:
        yield (
            "its outputs have no gradient with respect to the image: gradient attacks find "
            "nothing; believe Square and transfer attacks alone"
        )
    elif checks.rounded > MOST:
        yield (
            f"its outputs do not change while pixels move within a grey level, on "
            f"{100 * checks.rounded:.0f} % {of}: it rounds or compresses its input, and is not "
            "differentiable; believe Square and transfer attacks more"
        )
    elif checks.zero_gradient > MOST:
        yield (
            f"the gradient of its loss is zero or not finite on {100 * checks.zero_gradient:.0f} % "
            f"{of}: gradient attacks find nothing; believe Square and transfer attacks more"
        )
    if checks.saturated > MOST:
        yield (
            f"its logits are saturated on {100 * checks.saturated:.0f} % {of}: are its mean and "
            "std those of its training?"
        )


def find_validation_doubts(clean: Outcome, expected: float, what: str, gap: float) -> Iterator[str]:
    """A line if clean accuracy is far below another accuracy in [0,1], by more than chance."""
    interval = wilson_interval(clean.accuracy, len(clean.index))
    if expected - clean.accuracy >= gap and interval.high < expected:
        yield (
            f"{100 * clean.accuracy:.1f} % of {len(clean.index)} clean test images, far below "
            f"{100 * expected:.1f} % of {what}: are the test images prepared as in training, with "
            "the same mean and std?"
        )


def find_preparation_doubts(model: Artefact, outcomes: dict) -> Iterator[str]:
    """A line if a model's clean accuracy is far below that which its training measured."""
    clean = outcomes.get(CLEAN_POINT)
    if clean is None:
        return
    if "history.json" in model.manifest.files:
        epochs = read_json(model.get_verified_path("history.json"), "make it again")["epochs"]
        measured = [e["val_clean"] for e in epochs if "val_clean" in e]
        if measured:
            yield from find_validation_doubts(
                clean, measured[-1], "its validation images", VALIDATION_GAP
            )
    elif (trial := model.manifest.facts.get("trial_accuracy")) is not None:
        yield from find_validation_doubts(clean, trial, "the images of its trial", TRIAL_GAP)


def find_model_doubts(study: Study, model: Artefact, outcomes: dict) -> list[str]:
    """One line for each doubt about a model's outputs and preparation, each once."""
    lines = [
        line for checks in read_output_checks(study, model) for line in find_output_doubts(checks)
    ]
    return list(dict.fromkeys([*lines, *find_preparation_doubts(model, outcomes)]))
