"""The report's table of boundary risks: how near the decision boundary samples lie (DARWIN)."""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import format_shift
from pipeline.report.outcomes import Outcome, Study, align_outcomes
from pipeline.report.tables import format_caption, format_markdown_table

REVISION = 2

RISK_HEADINGS = ("R_nat", "R_bdy(D)", "R_bdy(path)", "tau_bdy", "tau_bdy − R_nat")
HEADINGS = ("model", "epoch", "suite", "images", *RISK_HEADINGS, "n")
WHOLE_TEST_SET = "all"  # stands where a row has no part of the test set
EXPORTED_WEIGHTS = "exported"  # stands where a row has no epoch: weights that the model exports
TABLE_NOTE = (
    "Shares, not percent (DARWIN, Table 8). R_nat: images misclassified. R_bdy: correctly "
    "classified ones that PGD in the ball around them turns: of all images D, or of the correctly "
    "classified intermediate samples of an attack, those before its last step. tau_bdy = "
    "R_bdy(path) − R_bdy(D). A row is one model, without an interval; «exported» are the weights "
    "that it gives, images those of a part of the test set where it has parts."
)


@dataclass(frozen=True)
class BoundaryRisks:
    """Shares in [0,1] of one model, and the number of images."""

    natural_risk: float
    data_boundary_risk: float
    path_boundary_risk: float
    image_count: int

    @property
    def risk_gain(self) -> float:
        """tau_bdy: the boundary risk of the intermediate samples above that of the data."""
        return self.path_boundary_risk - self.data_boundary_risk


def find_turned_images(unprobed: Outcome, probed: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Masks (N,) of the common images: classified correctly, and of these turned by a probe."""
    before, after = align_outcomes(unprobed, probed)
    correct = before.correctness > 0
    return correct, correct & (after.correctness == 0)


def compute_boundary_risks(points: dict[AttackPoint, Outcome]) -> dict[AttackPoint, BoundaryRisks]:
    """A model's risks by part of the test set, from its outcomes along the attack's path.

    The keys are the points of the images themselves. R_bdy(path) is taken over all correctly
    classified samples of steps 1 to n-1 together; it is nan if there is none.
    """
    parts: dict[AttackPoint, dict[int, dict[bool, Outcome]]] = {}
    for point, outcome in points.items():
        if point.attack == "boundary_risk":
            steps = parts.setdefault(replace(point, sample=0, probe=None), {})
            steps.setdefault(point.sample, {})[point.probe is not None] = outcome
    return {part: compute_part_risks(steps) for part, steps in parts.items()}


def compute_part_risks(steps: dict[int, dict[bool, Outcome]]) -> BoundaryRisks:
    """The risks of one part, from outcomes by step, before (False) and after (True) the probe."""
    masks_by_step = {i: find_turned_images(both[False], both[True]) for i, both in steps.items()}
    correct, turned_images = masks_by_step.pop(0)
    correct_count = sum(int(r.sum()) for r, _ in masks_by_step.values())
    turned_count = sum(int(t.sum()) for _, t in masks_by_step.values())
    path = turned_count / correct_count if correct_count else float("nan")
    return BoundaryRisks(1 - float(correct.mean()), float(turned_images.mean()), path, len(correct))


def collect_boundary_risks(
    study: Study,
) -> list[tuple[str, int | None, str, AttackPoint, BoundaryRisks]]:
    """Rows of model, epoch (None: exported weights), suite, point of the images, and risks."""
    rows = []
    for name, evaluation in study.get_artefacts("evaluation").items():
        spec, inputs = get_spec(evaluation.manifest), evaluation.manifest.inputs
        if any("boundary_risk" in attack for attack in spec.attacks):
            points = study.outcomes_by_evaluation[evaluation.manifest.key]
            model, suite = study.find_name(inputs["model"]), study.find_suite(name, evaluation)
            rows += [
                (model, spec.epoch, suite, point, found)
                for point, found in compute_boundary_risks(points).items()
            ]
    return rows


def format_section(study: Study) -> list[str]:
    """The section's Markdown: a table with one row for each model, epoch, suite and part."""
    rows = [
        [
            *(model, epoch or EXPORTED_WEIGHTS, suite, format_shift(point) or WHOLE_TEST_SET),
            *(f"{v:.3f}" for v in (r.natural_risk, r.data_boundary_risk, r.path_boundary_risk)),
            *(f"{v:+.3f}" for v in (r.risk_gain, r.risk_gain - r.natural_risk)),
            r.image_count,
        ]
        for model, epoch, suite, point, r in collect_boundary_risks(study)
    ]
    return [
        "## Boundary risk",
        format_markdown_table(HEADINGS, rows, left_columns=4),
        format_caption(TABLE_NOTE),
    ]
