"""What a student may have to withstand: clean images, attacks, shifts; each a column of scores."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import format_attack, format_point_radius
from pipeline.report.attack_points import (
    is_corruption,
    rank_by_strength,
)
from pipeline.report.outcomes import (
    CLEAN_POINT,
    ModelGroup,
    Outcome,
    Study,
    align_outcomes,
    average_outcomes,
    find_common_rows,
)
from pipeline.report.results.rows import Measurement, Measurements
from pipeline.report.statistics.intervals import (
    ConfidenceInterval,
    student_t_interval,
    wilson_interval,
)
from pipeline.report.statistics.worst_case import choose_radius, list_radii, take_worst

REVISION = 3

Outcomes = dict[AttackPoint, Outcome]


@dataclass(frozen=True)
class Score:
    """A model's correctness under a threat.

    Attributes:
        outcomes: one for each seed, all on the same images.
        evaluation_keys: of the evaluations that it comes from.
    """

    outcomes: tuple[Outcome, ...]
    evaluation_keys: tuple[str, ...]

    @property
    def image_count(self) -> int:
        """The number of test images."""
        return len(self.outcomes[0].index)

    @property
    def interval(self) -> ConfidenceInterval:
        """Accuracy in [0,1] with its interval, over seeds; over images where there is one seed."""
        if len(self.outcomes) > 1:
            return student_t_interval([outcome.accuracy for outcome in self.outcomes])
        return wilson_interval(self.outcomes[0].accuracy, self.image_count)


@dataclass(frozen=True)
class Threat:
    """A threat and the scores under it, all of the same attack points.

    Attributes:
        name: clean, attack or shift.
        words: how a sentence begins that speaks of it.
        scores: by kind and name of the model.
    """

    name: str
    words: str
    scores: dict[tuple[str, str], Score]


def find_threats(study: Study, by_place: Measurements) -> list[Threat]:
    """The threats under which a student was evaluated: clean, attack, shift.

    A model's own test set comes before others.
    """
    specs = [e.manifest for e in study.get_artefacts("evaluation").values()]
    others = {study.find_name(m.inputs["dataset"]) for m in specs if get_spec(m).shifted}
    tests = dict.fromkeys(place[2] for place in by_place if place[1] is None)
    ordered = sorted(tests, key=lambda test: test in others)
    shifted = [(choose_corruptions, describe_shift, test) for test in ordered]
    shifted += [(choose_clean, describe_other_set, test) for test in ordered if test in others]
    candidates = {
        "clean": [(choose_clean, describe_clean, test) for test in ordered],
        "attack": [(choose_attacks, describe_attacks, test) for test in ordered],
        "shift": shifted,
    }
    threats = []
    for name, ways in candidates.items():
        found = (score_groups(study.groups, by_place, name, *way) for way in ways)
        threats += [threat for threat in found if threat is not None][:1]
    return threats


def score_groups(
    groups: Sequence[ModelGroup],
    by_place: Measurements,
    name: str,
    choose: Callable,
    describe: Callable,
    test: str,
) -> Threat | None:
    """The threat on one test set; None where no student was evaluated on what makes it."""
    found = {
        (g.kind, g.name): [by_place.get((m.manifest.key, None, test), {}) for m in g.members]
        for g in groups
    }
    students = [m for (kind, _), ms in found.items() if kind == "student" for m in ms if choose(m)]
    if not students:
        return None
    points = choose(set.intersection(*({*m} for m in students))) or choose(students[0])
    scored = {
        where: members
        for where, members in found.items()
        if all(set(points) <= m.keys() for m in members)
    }
    combine = average_outcomes
    if name == "attack":
        combine = take_worst
        if all(CLEAN_POINT in m for members in scored.values() for m in members):
            points = [CLEAN_POINT, *points]
    scores = {where: make_score(members, points, combine) for where, members in scored.items()}
    return Threat(name, describe(points, test), scores)


def make_score(
    members: Sequence[dict[AttackPoint, Measurement]],
    points: Sequence[AttackPoint],
    combine: Callable = average_outcomes,
) -> Score:
    """The score of one model over some attack points, its seeds on their common images."""
    outcomes = [combine_images([m[p].outcome for p in points], combine) for m in members]
    common = find_common_rows(o.index for o in outcomes)
    shared = Outcome(common, np.zeros(len(common)))
    keys = dict.fromkeys(m[p].evaluation.manifest.key for m in members for p in points)
    return Score(tuple(align_outcomes(o, shared)[0] for o in outcomes), tuple(keys))


def combine_images(outcomes: Sequence[Outcome], combine: Callable) -> Outcome:
    """Outcomes combined image by image; one after the other where they have no image in common.

    So it is with the parts of a test set, such as the corruptions of ImageNet-C: their images are
    other rows of one test split.
    """
    if len(find_common_rows(o.index for o in outcomes)):
        return combine(outcomes)
    index, first = np.unique(np.concatenate([o.index for o in outcomes]), return_index=True)
    return Outcome(index, np.concatenate([o.correctness for o in outcomes])[first])


def choose_clean(points) -> list[AttackPoint]:
    """Images without attack or shift."""
    return [point for point in points if point == CLEAN_POINT]


def choose_attacks(points) -> list[AttackPoint]:
    """All attacks at radius 8/255, or at the largest radius of all where none has 8/255.

    Those of another norm than L-infinity count where there are no others.
    """
    radius = choose_radius(list_radii(points))
    return sorted(filter(radius.is_of, points), key=rank_by_strength)


def choose_corruptions(points) -> list[AttackPoint]:
    """All corruptions under no attack."""
    return sorted(filter(is_corruption, points), key=rank_by_strength)


def describe_clean(points: Sequence[AttackPoint], test: str) -> str:
    """How the sentence on clean images begins."""
    return f"On clean images of {test}"


def describe_other_set(points: Sequence[AttackPoint], test: str) -> str:
    """How the sentence on another test set begins."""
    return f"Under shift (images of {test})"


def describe_attacks(points: Sequence[AttackPoint], test: str) -> str:
    """How the sentence on attacks begins, which names them and their radius."""
    attacks = [point for point in points if point != CLEAN_POINT]
    names = list(dict.fromkeys(format_attack(replace(p, eps=0.0)) for p in attacks))
    listed = join_words([*(["no attack"] if len(attacks) < len(points) else []), *names])
    worst = f"the worst of {listed}" if len(points) > 1 else listed
    return f"Under attack ({worst} at {format_point_radius(attacks[0])}, image by image)"


def describe_shift(points: Sequence[AttackPoint], test: str) -> str:
    """How the sentence on corruptions begins."""
    severities = "/".join(map(str, sorted({p.severity for p in points})))
    number = len({p.corruption for p in points})
    many = f"mean of {number} corruptions" if number > 1 else points[0].corruption
    return f"Under shift ({many}, severity {severities})"


def join_words(words: Sequence[str]) -> str:
    """Words as a sentence lists them: `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
