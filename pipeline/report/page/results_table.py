"""The page's main table: each cell leads to its artefacts, each column says its n."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.config.specs import get_spec
from pipeline.report.outcomes import ModelGroup, Study
from pipeline.report.results.rows import Measurements
from pipeline.report.results.threats import Score, Threat, make_score
from pipeline.report.sanity_checks import list_suspicious_rows
from pipeline.report.tables import Column, describe_model_kind, make_columns

REVISION = 1

WORST_HEADING = "worst case"


@dataclass(frozen=True)
class TableHead:
    """A column's heading, its number of images in words, and whether not all models saw all."""

    text: str
    images: str
    is_partial: bool


@dataclass(frozen=True)
class TableCell:
    """One number: what is shown, by what it is sorted, and what it comes from.

    Attributes:
        text: accuracy in percent; empty where there is none.
        interval: its 95 % interval in words.
        order: the accuracy in percent.
        hover: the model's seeds, its images and the keys.
        key: of the artefact that it leads to.
    """

    text: str
    interval: str
    order: float
    hover: str
    key: str


@dataclass(frozen=True)
class TableRow:
    """One model: its name and role, the key of its first seed, and its cells.

    Attributes:
        is_doubtful: whether a check of the numbers found something to look at.
    """

    name: str
    role: str
    key: str
    seeds: str
    cells: tuple[TableCell | None, ...]
    is_doubtful: bool


ScoresByGroup = dict[tuple[str, str], Score]


def make_table(
    study: Study, measurements: Measurements, threats: Sequence[Threat]
) -> tuple[list[TableHead], list[TableRow]]:
    """Headings and rows of the main table; its last column is the worst case under attack."""
    groups, doubtful = study.evaluated_groups, list_suspicious_rows(study)
    by_model = select_own(measurements)
    scored = [(c.full_heading, score_column(groups, by_model, c)) for c in make_columns(groups)]
    worst = [t for t in threats if t.name == "attack"]
    scored += [(WORST_HEADING, t.scores) for t in worst]
    most = max((g.image_count for g in groups), default=0)
    heads = [make_head(text, scores, most) for text, scores in scored]
    rows = [
        TableRow(
            group.name,
            describe_model_kind(group),
            group.members[0].manifest.key,
            ", ".join(
                str(m.manifest.spec["seed"]) for m in group.members if "seed" in m.manifest.spec
            ),
            tuple(make_cell(group, scores.get((group.kind, group.name))) for _, scores in scored),
            (group.kind, group.name) in doubtful,
        )
        for group in groups
    ]
    return heads, rows


def select_own(measurements: Measurements) -> dict[str, dict]:
    """Measurements by the model's key, of the weights it exports on its own test images."""
    found: dict[str, dict] = {}
    for (key, epoch, _), points in measurements.items():
        own = {p: m for p, m in points.items() if not get_spec(m.evaluation.manifest).shifted}
        if epoch is None and own:
            found[key] = {**own, **found.get(key, {})}
    return found


def score_column(
    groups: Sequence[ModelGroup], by_model: dict[str, dict], column: Column
) -> ScoresByGroup:
    """The scores of a column, where a model has all its points."""
    found = {}
    for group in groups:
        members = [by_model.get(m.manifest.key, {}) for m in group.members]
        if all(set(column.points) <= m.keys() for m in members):
            found[group.kind, group.name] = make_score(members, column.points)
    return found


def make_head(text: str, scores: ScoresByGroup, most: int) -> TableHead:
    """A heading with the number of images of its cells."""
    counts = sorted({score.image_count for score in scores.values()})
    words = "/".join(f"{n:,}" for n in counts)
    return TableHead(text, f"n = {words}", bool(counts) and counts[0] < most)


def make_cell(group: ModelGroup, score: Score | None) -> TableCell | None:
    """The cell of one score."""
    if score is None:
        return None
    interval = score.interval
    value, low, high = (100 * v for v in (interval.value, interval.low, interval.high))
    many = len(score.outcomes) > 1
    keys = ", ".join(score.evaluation_keys[:6]) + ("…" if len(score.evaluation_keys) > 6 else "")
    seeds = [str(m.manifest.spec.get("seed", "–")) for m in group.members]
    hover = (
        f"{group.name}: {value:.2f} % [{low:.2f}, {high:.2f}] of {score.image_count:,} images; "
        f"seed {', '.join(seeds)}; evaluation {keys}"
    )
    spread = f"±{(high - low) / 2:.1f}" if many else f"{low:.1f} – {high:.1f}"
    return TableCell(f"{value:.1f}", spread, round(value, 4), hover, score.evaluation_keys[0])
