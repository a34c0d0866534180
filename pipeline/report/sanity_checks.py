"""Signs that a robust accuracy cannot be trusted (Carlini et al., arXiv:1902.06705, Sec. 3)."""

from collections.abc import Iterator

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import format_attack_at
from pipeline.report.intervals import sign_test
from pipeline.report.outcomes import (
    CLEAN,
    Outcome,
    Study,
    in_order,
    is_corruption,
    is_shifted,
    is_usual_pgd,
    paired,
    strength,
    without_radius,
)
from pipeline.upkeep.code_drift import changes

REVISION = 2

MASKED = 0.10  # how far below PGD an AutoAttack accuracy looks like masked gradients
CHANCE = 0.05

Found = dict[AttackPoint, Outcome]


def suspicions(study: Study) -> list[str]:
    """One line a finding, over every evaluated student and teacher."""
    lines = []
    for group in study.evaluated:
        for member, found in zip(group.members, group.outcomes, strict=True):
            name = study.name_of(member.manifest.key)
            lines += [f"{group.kind} {name}: {text}" for text in doubts(found)]
    return lines


def doubts(found: Found) -> list[str]:
    """Everything odd in one model's outcomes."""
    return [*above_clean(found), *weaker(found), *autoattack(found), *rising(found)]


def higher(found: Found, one: AttackPoint, two: AttackPoint) -> Iterator[str]:
    """A line if the model is more often right under ``one`` than under ``two``."""
    first, second = paired(found[one], found[two])
    if not len(first.index) or first.accuracy <= second.accuracy:
        return
    wins = int((first.right > second.right).sum())
    losses = int((first.right < second.right).sum())
    p = sign_test(wins, losses)
    chance = f"; it may be chance, p = {p:.2f}" if p > CHANCE else ""
    yield (
        f"{100 * first.accuracy:.1f} % under {format_attack_at(one)}, more than "
        f"{100 * second.accuracy:.1f} % under {format_attack_at(two)} "
        f"({len(first.index)} images{chance})"
    )


def attacks_of(found: Found) -> list[AttackPoint]:
    """The attacks with a radius, weak before strong, small radii first."""
    points = [p for p in found if p.eps > 0 and not is_corruption(p)]
    return sorted(points, key=lambda p: (p.eps, strength(p)))


def is_gradient_ascent(point: AttackPoint) -> bool:
    """Whether an attack is FGSM or the usual PGD, on the model itself and its whole test set."""
    fgsm = point.attack == "fgsm" and not is_shifted(point)
    return (fgsm or is_usual_pgd(point)) and point.surrogate is None


def is_rival(point: AttackPoint, of: AttackPoint) -> bool:
    """Whether a point is of the usual PGD on the model itself, at the same radius."""
    return is_usual_pgd(point) and point.surrogate is None and point.eps == of.eps


def above_clean(found: Found) -> Iterator[str]:
    """Accuracy under an attack above clean accuracy."""
    if CLEAN in found:
        for point in attacks_of(found):
            yield from higher(found, point, CLEAN)


def weaker(found: Found) -> Iterator[str]:
    """PGD weaker than FGSM, or more steps weaker than fewer, at one radius."""
    steps = [p for p in attacks_of(found) if is_gradient_ascent(p)]
    for weak, strong in zip(steps, steps[1:], strict=False):
        if weak.eps == strong.eps:
            yield from higher(found, strong, weak)


def autoattack(found: Found) -> Iterator[str]:
    """AutoAttack above the strongest PGD, or far below it, on the same images."""
    for point in attacks_of(found):
        rivals = [p for p in attacks_of(found) if is_rival(p, point)]
        alone = point == AttackPoint("autoattack", point.eps)
        if not alone or not rivals:
            continue
        yield from higher(found, point, rivals[-1])
        strong, weak = paired(found[point], found[rivals[-1]])
        if len(strong.index) and weak.accuracy - strong.accuracy >= MASKED - 1e-9:
            yield (
                f"{100 * strong.accuracy:.1f} % under {format_attack_at(point)}, far below "
                f"{100 * weak.accuracy:.1f} % under {format_attack_at(rivals[-1])} "
                f"({len(strong.index)} images): gradients may be masked"
            )


def rising(found: Found) -> Iterator[str]:
    """A larger radius that leaves a higher accuracy."""
    points = [p for p in found if not is_corruption(p)]
    points.sort(key=lambda p: (in_order(without_radius(p)), p.eps))
    for small, large in zip(points, points[1:], strict=False):
        if without_radius(small) == without_radius(large):
            yield from higher(found, large, small)


def outdated(study: Study) -> list[str]:
    """One line for each artefact that other code than today's has made."""
    return [
        f"{artifact.manifest.name} ({ref}): {', '.join(changed)}"
        for ref, artifact in study.artifacts.items()
        if (changed := changes(artifact.manifest))
    ]
