"""Signs that a robust accuracy cannot be trusted (Carlini et al., arXiv:1902.06705, Sec. 3)."""

from collections.abc import Iterator

from pipeline.report.intervals import sign_test
from pipeline.report.outcomes import Outcome, Point, Study, is_corruption, paired, strength, title
from pipeline.upkeep.code_drift import changes

REVISION = 1

MASKED = 0.10  # how far below PGD an AutoAttack accuracy looks like masked gradients
CHANCE = 0.05

Found = dict[Point, Outcome]


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


def label(point: Point) -> str:
    """An attack and its radius in words."""
    return title(point[0]) + (f" at {point[1] * 255:g}/255" if point[1] else "")


def higher(found: Found, one: Point, two: Point) -> Iterator[str]:
    """A line if the model is more often right under ``one`` than under ``two``."""
    first, second = paired(found[one], found[two])
    if not len(first.index) or first.accuracy <= second.accuracy:
        return
    wins = int((first.right > second.right).sum())
    losses = int((first.right < second.right).sum())
    p = sign_test(wins, losses)
    chance = f"; it may be chance, p = {p:.2f}" if p > CHANCE else ""
    yield (
        f"{100 * first.accuracy:.1f} % under {label(one)}, more than {100 * second.accuracy:.1f} % "
        f"under {label(two)} ({len(first.index)} images{chance})"
    )


def attacks_of(found: Found) -> list[Point]:
    """The attacks with a radius, weak before strong, small radii first."""
    points = [p for p in found if p[1] > 0 and not is_corruption(p)]
    return sorted(points, key=lambda p: (p[1], strength(p[0])))


def above_clean(found: Found) -> Iterator[str]:
    """Accuracy under an attack above clean accuracy."""
    if ("clean", 0.0) in found:
        for point in attacks_of(found):
            yield from higher(found, point, ("clean", 0.0))


def weaker(found: Found) -> Iterator[str]:
    """PGD weaker than FGSM, or more steps weaker than fewer, at one radius."""
    steps = [p for p in attacks_of(found) if strength(p[0])[0] in (1, 2)]
    for weak, strong in zip(steps, steps[1:], strict=False):
        if weak[1] == strong[1]:
            yield from higher(found, strong, weak)


def autoattack(found: Found) -> Iterator[str]:
    """AutoAttack above the strongest PGD, or far below it, on the same images."""
    for point in attacks_of(found):
        rivals = [p for p in attacks_of(found) if strength(p[0])[0] == 2 and p[1] == point[1]]
        if point[0] != "autoattack" or not rivals:
            continue
        yield from higher(found, point, rivals[-1])
        strong, weak = paired(found[point], found[rivals[-1]])
        if len(strong.index) and weak.accuracy - strong.accuracy >= MASKED - 1e-9:
            yield (
                f"{100 * strong.accuracy:.1f} % under {label(point)}, far below "
                f"{100 * weak.accuracy:.1f} % under {label(rivals[-1])} ({len(strong.index)} "
                "images): gradients may be masked"
            )


def rising(found: Found) -> Iterator[str]:
    """A larger radius that leaves a higher accuracy."""
    points = sorted(p for p in found if not is_corruption(p))
    for small, large in zip(points, points[1:], strict=False):
        if small[0] == large[0]:
            yield from higher(found, large, small)


def outdated(study: Study) -> list[str]:
    """One line for each artefact that other code than today's has made."""
    return [
        f"{artifact.manifest.name} ({ref}): {', '.join(changed)}"
        for ref, artifact in study.artifacts.items()
        if (changed := changes(artifact.manifest))
    ]
