"""Which student for which threat, in a few plain sentences made from the data."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.core.seeding import derive_seed
from pipeline.report.outcomes import ModelGroup, Study, find_common_rows
from pipeline.report.results.threats import Threat, join_words
from pipeline.report.statistics.paired import stack_outcomes
from pipeline.report.statistics.resampling import (
    LEVEL,
    Difference,
    compare_models,
    correct_by_holm,
    resample_accuracies,
)
from pipeline.store.attempt_cost import sum_attempt_costs

REVISION = 1

HEADINGS = {"clean": "Clean images", "attack": "Under attack", "shift": "Under shift"}
MOST_NAMES = 4  # of the students that a sentence lists


@dataclass(frozen=True)
class Verdict:
    """The best student under one threat, and the students that may be as good.

    Attributes:
        threat: what they were tested on.
        best: name of the student with the highest accuracy.
        differences: best minus each other student, by name, with Holm's p-values.
        image_count: number of images that all of them saw.
    """

    threat: Threat
    best: str
    differences: dict[str, Difference]
    image_count: int

    @property
    def equals(self) -> list[str]:
        """The students whose difference from the best these images cannot show."""
        return [name for name, found in self.differences.items() if found.p > LEVEL]


@dataclass(frozen=True)
class Answer:
    """A sentence and its short heading, both plain text.

    Attributes:
        heading: a few words.
        sentence: the answer.
        tells_times: whether it differs from run to run, as seconds do.
    """

    heading: str
    sentence: str
    tells_times: bool = False


def judge_threat(threat: Threat) -> Verdict | None:
    """The verdict over students under one threat; None without a student."""
    students = {name: s for (kind, name), s in threat.scores.items() if kind == "student"}
    if not students:
        return None
    best = max(students, key=lambda name: students[name].interval.value)
    common = find_common_rows(o.index for score in students.values() for o in score.outcomes)
    correctness = {name: stack_outcomes(s.outcomes, common) for name, s in students.items()}
    rng = np.random.default_rng(derive_seed(0, "verdict", threat.name))
    resampled = resample_accuracies(correctness, rng) if len(students) > 1 else {}
    found = {
        name: compare_models(correctness[best], rows, (resampled[best], resampled[name]))
        for name, rows in correctness.items()
        if name != best
    }
    adjusted = correct_by_holm([difference.p for difference in found.values()])
    differences = {
        name: Difference(d.value, d.low, d.high, p)
        for (name, d), p in zip(found.items(), adjusted, strict=True)
    }
    return Verdict(threat, best, differences, len(common))


def judge_threats(threats: Sequence[Threat]) -> list[Verdict]:
    """The verdicts on all threats that a student faced."""
    verdicts = [judge_threat(threat) for threat in threats]
    return [verdict for verdict in verdicts if verdict is not None]


def make_answers(study: Study, verdicts: Sequence[Verdict]) -> list[Answer]:
    """One answer a threat, and one on cost; empty where no student was evaluated."""
    answers = [Answer(HEADINGS[v.threat.name], word_verdict(v)) for v in verdicts]
    by_name = {verdict.threat.name: verdict for verdict in verdicts}
    judged = by_name.get("attack") or by_name.get("clean")
    if judged is not None and judged.differences:
        answers.append(Answer("For its cost", word_cost(study, judged), tells_times=True))
    return answers


def word_verdict(verdict: Verdict) -> str:
    """A verdict as one or two sentences."""
    score = verdict.threat.scores["student", verdict.best]
    share = score.interval
    tied = [verdict.best, *(name for name, d in verdict.differences.items() if d.value == 0)]
    verb = "is" if len(tied) == 1 else "are"
    often = " most often" if verdict.differences else ""
    text = (
        f"{verdict.threat.words}, {list_names(tied)} {verb} right{often}: "
        f"{100 * share.value:.1f} % "
        f"[{100 * share.low:.1f}, {100 * share.high:.1f}] of {score.image_count:,} images"
        f"{word_seeds(len(score.outcomes))}."
    )
    return f"{text} {word_rivals(verdict)}".strip()


def word_seeds(count: int) -> str:
    """How many seeds a number stands for; empty for one."""
    return f", mean of {count} seeds" if count > 1 else ""


def word_rivals(verdict: Verdict) -> str:
    """Whom the images cannot tell from the best; where there is none, how far the next is."""
    if not verdict.differences:
        return ""
    n = f"{verdict.image_count:,} images"
    if verdict.equals:
        return f"Against {list_names(verdict.equals)}, there is no difference that {n} can show."
    name, found = min(verdict.differences.items(), key=lambda item: item[1].value)
    return (
        f"The next, {name}, is {100 * found.value:.1f} points behind "
        f"[{100 * found.low:.1f}, {100 * found.high:.1f}], a difference that {n} show."
    )


def list_names(names: Sequence[str]) -> str:
    """Names as a sentence lists them, the first few of many."""
    shown = list(names[:MOST_NAMES])
    left = len(names) - MOST_NAMES
    more = [f"{left} other{'s' if left > 1 else ''}"] if left > 0 else []
    return join_words(shown + more)


def word_cost(study: Study, verdict: Verdict) -> str:
    """The cheapest student that cannot be told from the best under a threat."""
    groups = {g.name: g for g in study.groups if g.kind == "student"}
    names = [verdict.best, *verdict.equals]
    seconds = {name: measure_training(groups[name]) for name in names}
    cheapest = min(names, key=lambda name: seconds[name])
    where = HEADINGS[verdict.threat.name].lower()
    paid = f"{seconds[cheapest]:,.0f} CPU-seconds of its own training"
    if cheapest == verdict.best:
        told = " of those that cannot be told from it" if verdict.equals else ""
        return f"{cheapest}, the best {where}, is also the cheapest{told}: {paid}."
    return (
        f"{cheapest} is the cheapest of the students that {verdict.image_count:,} images cannot "
        f"tell from the best {where}: {paid}, where {verdict.best} took "
        f"{seconds[verdict.best]:,.0f}."
    )


def measure_training(group: ModelGroup) -> float:
    """CPU-seconds of one training, the mean of a model's seeds."""
    costs = [sum_attempt_costs(member.folder)["cpu_seconds"] for member in group.members]
    return sum(costs) / len(costs)
