"""Signs that a robust accuracy cannot be trusted (Carlini et al., arXiv:1902.06705, Sec. 3)."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import format_attack_at
from pipeline.report.attack_points import (
    drop_radius,
    is_at,
    is_corruption,
    is_default_pgd,
    is_shifted,
    rank_by_columns,
    rank_by_strength,
)
from pipeline.report.outcomes import CLEAN_POINT, Outcome, Study, align_outcomes
from pipeline.report.output_doubts import find_model_doubts
from pipeline.report.statistics.intervals import sign_test
from pipeline.report.tables import escape_markdown
from pipeline.upkeep.code_drift import list_code_changes

REVISION = 6

MASKED_GRADIENT_GAP = 0.10  # AutoAttack this far below PGD suggests masked gradients
SIGNIFICANCE_LEVEL = 0.05

OutcomesByPoint = dict[AttackPoint, Outcome]


@dataclass(frozen=True)
class Doubt:
    """What was seen in one model's outcomes.

    Attributes:
        text: the line that says so.
        may_be_chance: whether no more was seen than so few images may show by chance.
    """

    text: str
    may_be_chance: bool = False


@dataclass(frozen=True)
class Suspicion:
    """A doubt about one model's robust accuracy.

    Attributes:
        row: name of the row of the tables that it concerns.
        kind: kind of the row.
        model: name of the artefact, such as one seed of a student.
        doubt: what was seen.
    """

    row: str
    kind: str
    model: str
    doubt: Doubt


@lru_cache(maxsize=1)
def find_suspicions(study: Study) -> tuple[Suspicion, ...]:
    """Every doubt about an evaluated student or teacher, in the order of the tables' rows."""
    found = []
    for group in study.evaluated_groups:
        for member, outcomes in zip(group.members, group.outcomes, strict=True):
            name = study.find_name(member.manifest.key)
            doubts = find_doubts(outcomes)
            doubts += [Doubt(text) for text in find_model_doubts(study, member, outcomes)]
            found += [Suspicion(group.name, group.kind, name, doubt) for doubt in doubts]
    return tuple(found)


def list_suspicions(study: Study) -> list[str]:
    """One line for each doubt about an evaluated student or teacher."""
    return [f"{s.kind} {s.model}: {s.doubt.text}" for s in find_suspicions(study)]


def format_section(study: Study) -> list[str]:
    """The section's Markdown: the checks of the numbers, and artefacts that older code has made."""
    doubts, old = list_suspicions(study), list_outdated_artefacts(study)
    checks = (
        "Checked for each model, on the images that both attacks saw: accuracy under attack above "
        "clean; PGD weaker than FGSM, or than PGD with fewer steps; AutoAttack above PGD, or ten "
        "points below it; an attack from another model below PGD; a larger radius that leaves more "
        "accuracy. Of its outputs: softmax, "
        "chance, rounding, no gradient, saturation; and clean accuracy far below validation's."
    )
    made = "Everything was made by today's code."
    return [
        "## Suspicious?",
        checks,
        format_bullets(doubts) or "Found: none.",
        f"Made by other code than today's:\n\n{format_bullets(old)}" if old else made,
    ]


def format_bullets(lines: list[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {escape_markdown(line)}" for line in lines)


def list_suspicious_rows(study: Study) -> set[tuple[str, str]]:
    """Kind and name of the rows of the tables that a doubt concerns which is hardly chance."""
    return {(s.kind, s.row) for s in find_suspicions(study) if not s.doubt.may_be_chance}


def find_doubts(outcomes: OutcomesByPoint) -> list[Doubt]:
    """Every doubt about one model's outcomes."""
    return [
        *find_above_clean(outcomes),
        *find_weak_pgd(outcomes),
        *find_autoattack_doubts(outcomes),
        *find_strong_transfers(outcomes),
        *find_rising_accuracy(outcomes),
    ]


def find_higher_accuracy(
    outcomes: OutcomesByPoint, stronger_point: AttackPoint, weaker_point: AttackPoint
) -> Iterator[Doubt]:
    """A doubt if accuracy under the stronger attack is above that under the weaker one."""
    first, second = align_outcomes(outcomes[stronger_point], outcomes[weaker_point])
    if not len(first.index) or first.accuracy <= second.accuracy:
        return
    wins = int((first.correctness > second.correctness).sum())
    losses = int((first.correctness < second.correctness).sum())
    p = sign_test(wins, losses)
    chance = f"; it may be chance, p = {p:.2f}" if p > SIGNIFICANCE_LEVEL else ""
    text = (
        f"{100 * first.accuracy:.1f} % under {format_attack_at(stronger_point)}, more than "
        f"{100 * second.accuracy:.1f} % under {format_attack_at(weaker_point)} "
        f"({len(first.index)} images{chance})"
    )
    yield Doubt(text, may_be_chance=p > SIGNIFICANCE_LEVEL)


def list_attack_points(outcomes: OutcomesByPoint) -> list[AttackPoint]:
    """The points that have a radius, small radii first, then weak attacks before strong ones."""
    points = [p for p in outcomes if p.eps > 0 and not is_corruption(p)]
    return sorted(points, key=lambda p: (p.eps, rank_by_strength(p)))


def is_gradient_ascent(point: AttackPoint) -> bool:
    """Whether a point is of FGSM or default PGD on the model itself and unshifted images."""
    fgsm = point.attack == "fgsm" and not is_shifted(point)
    return (fgsm or is_default_pgd(point)) and point.surrogate is None


def is_rival(point: AttackPoint, other: AttackPoint) -> bool:
    """Whether a point is of default PGD on the model itself, at the radius of another attack."""
    return is_default_pgd(point) and point.surrogate is None and is_at(other, point.eps)


def find_above_clean(outcomes: OutcomesByPoint) -> Iterator[Doubt]:
    """Doubts where accuracy under an attack is above clean accuracy."""
    if CLEAN_POINT in outcomes:
        for point in list_attack_points(outcomes):
            yield from find_higher_accuracy(outcomes, point, CLEAN_POINT)


def find_weak_pgd(outcomes: OutcomesByPoint) -> Iterator[Doubt]:
    """Doubts where PGD is weaker than FGSM or than PGD with fewer steps, at the same radius."""
    steps = [p for p in list_attack_points(outcomes) if is_gradient_ascent(p)]
    for weak, strong in zip(steps, steps[1:], strict=False):
        if weak.eps == strong.eps:
            yield from find_higher_accuracy(outcomes, strong, weak)


def find_autoattack_doubts(outcomes: OutcomesByPoint) -> Iterator[Doubt]:
    """Doubts where accuracy under AutoAttack is above, or far below, that under strongest PGD."""
    for point in list_attack_points(outcomes):
        rivals = [p for p in list_attack_points(outcomes) if is_rival(p, point)]
        is_plain_autoattack = replace(point, variant=None) == AttackPoint("autoattack", point.eps)
        if not is_plain_autoattack or not rivals:
            continue
        yield from find_higher_accuracy(outcomes, point, rivals[-1])
        strong, weak = align_outcomes(outcomes[point], outcomes[rivals[-1]])
        if len(strong.index) and weak.accuracy - strong.accuracy >= MASKED_GRADIENT_GAP - 1e-9:
            yield Doubt(
                f"{100 * strong.accuracy:.1f} % under {format_attack_at(point)}, far below "
                f"{100 * weak.accuracy:.1f} % under {format_attack_at(rivals[-1])} "
                f"({len(strong.index)} images): gradients may be masked"
            )


def find_strong_transfers(outcomes: OutcomesByPoint) -> Iterator[Doubt]:
    """Doubts where an attack made on another model leaves less accuracy than PGD on the model."""
    points = list_attack_points(outcomes)
    for point in (p for p in points if p.surrogate is not None and not is_shifted(p)):
        rivals = [p for p in points if is_rival(p, point)]
        if rivals:
            yield from find_higher_accuracy(outcomes, rivals[-1], point)


def find_rising_accuracy(outcomes: OutcomesByPoint) -> Iterator[Doubt]:
    """Doubts where a larger radius leaves a higher accuracy."""
    points = [p for p in outcomes if not is_corruption(p)]
    points.sort(key=lambda p: (rank_by_columns(drop_radius(p)), p.eps))
    for small, large in zip(points, points[1:], strict=False):
        if drop_radius(small) == drop_radius(large):
            yield from find_higher_accuracy(outcomes, large, small)


def list_outdated_artefacts(study: Study) -> list[str]:
    """One line for each artefact that was made by code other than today's."""
    return [
        f"{artefact.manifest.name} ({ref}): {', '.join(changed)}"
        for ref, artefact in study.artefacts.items()
        if (changed := list_code_changes(artefact.manifest))
    ]
