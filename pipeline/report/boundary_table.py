"""The report's table of boundary risks: how near to the boundary a model's samples lie (DARWIN)."""

from dataclasses import dataclass, replace

import numpy as np

from pipeline.config.specs import spec_of
from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import format_shift
from pipeline.report.outcomes import Outcome, Study, paired, read_outcomes
from pipeline.report.tables import caption, grid

REVISION = 2

RISKS = ("R_nat", "R_bdy(D)", "R_bdy(path)", "tau_bdy", "tau_bdy − R_nat")
HEADS = ("model", "epoch", "suite", "images", *RISKS, "n")
ALL = "all"  # in the place of a part of the test set
EXPORTED = "exported"  # in the place of an epoch: the weights that the artefact gives
NOTE = (
    "Shares, not percent (DARWIN, Table 8). R_nat: images misclassified. R_bdy: correctly "
    "classified ones that PGD in the ball around them turns: of all images D, or of the correctly "
    "classified intermediate samples of an attack, those before its last step. tau_bdy = "
    "R_bdy(path) − R_bdy(D). A row is one model, without an interval; «exported» are the weights "
    "that it gives, images those of a part of the test set where it has parts."
)


@dataclass(frozen=True)
class Risks:
    """Shares in [0,1] of one model, and the number of images."""

    natural: float
    boundary: float
    path: float
    images: int

    @property
    def gain(self) -> float:
        """tau_bdy: what the intermediate samples have more of than the data."""
        return self.path - self.boundary


def turned(one: Outcome, probed: Outcome) -> tuple[np.ndarray, np.ndarray]:
    """Of the images that both saw: which were right, and which of them a probe turned."""
    before, after = paired(one, probed)
    right = before.right > 0
    return right, right & (after.right == 0)


def risks(points: dict[AttackPoint, Outcome]) -> dict[AttackPoint, Risks]:
    """A model's risks from its outcomes along the path, by the points of the images themselves.

    There is one for each part of the test set.

    R_bdy(path) is taken over all correctly classified samples of steps 1 to n-1 together; it is
    nan where there is none.
    """
    parts: dict[AttackPoint, dict[int, dict[bool, Outcome]]] = {}
    for point, outcome in points.items():
        if point.attack == "boundary_risk":
            steps = parts.setdefault(replace(point, sample=0, probe=None), {})
            steps.setdefault(point.sample, {})[point.probe is not None] = outcome
    return {part: risk(steps) for part, steps in parts.items()}


def risk(steps: dict[int, dict[bool, Outcome]]) -> Risks:
    """The risks from outcomes by step, before (False) and after (True) the probe."""
    pairs = {i: turned(both[False], both[True]) for i, both in steps.items()}
    right, lost = pairs.pop(0)
    kept = sum(int(r.sum()) for r, _ in pairs.values())
    gone = sum(int(t.sum()) for _, t in pairs.values())
    path = gone / kept if kept else float("nan")
    return Risks(1 - float(right.mean()), float(lost.mean()), path, len(right))


def measured(study: Study) -> list[tuple[str, int | None, str, AttackPoint, Risks]]:
    """Model, epoch (None: exported), suite, point of the images, and risks, in the plan's order."""
    rows = []
    for name, evaluation in study.of("evaluation").items():
        spec, inputs = spec_of(evaluation.manifest), evaluation.manifest.inputs
        if any("boundary_risk" in attack for attack in spec.attacks):
            points = read_outcomes(evaluation.path("outcomes.parquet"))
            who = study.name_of(inputs["model"]), spec.epoch, name.rpartition(".")[2]
            rows += [(*who, point, found) for point, found in risks(points).items()]
    return rows


def section(study: Study) -> list[str]:
    """One row a model and epoch."""
    rows = [
        [
            *(model, epoch or EXPORTED, suite, format_shift(point) or ALL),
            *(f"{v:.3f}" for v in (r.natural, r.boundary, r.path)),
            *(f"{v:+.3f}" for v in (r.gain, r.gain - r.natural)),
            r.images,
        ]
        for model, epoch, suite, point, r in measured(study)
    ]
    return ["## Boundary risk", grid(HEADS, rows, left=4), caption(NOTE)]
