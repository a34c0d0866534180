"""The best point of each sweep by validation: `python -m benchmarks.choose_tuned`.

    python -m benchmarks.choose_tuned [configuration ...]

Prints a row for each finished student of a sweep whose recipe selects on validation images: its
best epoch under PGD-10 at 8/255 on them, and its clean accuracy there, the best point of each sweep
first. The half of a 95 % interval over as many images as there are says which points differ.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from pipeline.planning.graph import make_plan_from_files
from pipeline.planning.plan import Plan, PlannedArtefact
from pipeline.store.artefact import open_artefact

ROOT = Path(__file__).parents[1]
USUAL = ("workflow/study-tuning.yaml",)


@dataclass(frozen=True)
class Point:
    """A point of a sweep: its values, and accuracies in [0,1] on the validation images."""

    sweep: str
    values: str
    robust: float
    clean: float
    images: int

    @property
    def half_width(self) -> float:
        """Half of the 95 % interval of the robust accuracy over images."""
        return 1.96 * (self.robust * (1 - self.robust) / self.images) ** 0.5


def read_point(plan: Plan, ref: str, student: PlannedArtefact) -> Point | None:
    """A finished student's best epoch; None where it did not measure robust accuracy."""
    history = json.loads((plan.folder_path(ref) / "history.json").read_text())["epochs"]
    epochs = [record for record in history if "val_robust" in record]
    if not epochs:
        return None
    best = max(epochs, key=lambda record: record["val_robust"])
    counts = open_artefact(plan.folder_path(student.inputs["dataset"].ref)).manifest.facts["counts"]
    sweep, _, values = student.name.partition(".")
    return Point(sweep, values, best["val_robust"], best["val_clean"], counts["val"])


def rank_points(points: list[Point]) -> list[Point]:
    """The points sweep by sweep, in the order of the configuration, each sweep's best first."""
    sweeps = {point.sweep: place for place, point in reversed(list(enumerate(points)))}
    return sorted(points, key=lambda point: (sweeps[point.sweep], -point.robust, -point.clean))


def main(*paths: str) -> None:
    """Print the table, in percent."""
    print("| sweep | values | PGD-10 | clean |")
    print("|---|---|--:|--:|")
    for path in paths:
        plan = make_plan_from_files(ROOT / path)
        made = {r: e for r, e in plan.artefacts.items() if e.kind == "student"}
        found = [read_point(plan, ref, e) for ref, e in made.items() if plan.is_complete(ref)]
        for point in rank_points([point for point in found if point is not None]):
            robust = f"{100 * point.robust:.1f} ±{100 * point.half_width:.1f}"
            print(f"| {point.sweep} | {point.values} | {robust} | {100 * point.clean:.1f} |")


if __name__ == "__main__":
    main(*(sys.argv[1:] or USUAL))
