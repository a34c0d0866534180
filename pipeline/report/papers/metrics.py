"""A printed column's value, measured for one of our models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.attack_labels import DEFAULT_STEP_SIZE, PIXEL_TOLERANCE
from pipeline.report.attack_points import is_corruption, is_shifted
from pipeline.report.boundary_table import BoundaryRisks
from pipeline.report.distribution_shift import mean_corruption_error
from pipeline.report.outcomes import CLEAN_POINT, Outcome
from pipeline.report.shift_table import OutcomesByTestSet
from pipeline.report.statistics.intervals import student_t_interval, wilson_interval

REVISION = 3

PERCENT = 100
DEFAULT_RADIUS = 8 / 255


@dataclass(frozen=True)
class AttackQuery:
    """What a column asks of an attack; None where any value will do."""

    attack: str
    steps: int | None = None
    start: str | None = None
    has_radius: bool = True

    def fits(self, point: AttackPoint, radius: float) -> bool:
        """Whether a point is of this attack, at this radius, on the images as they are."""
        return (
            point.attack == self.attack
            and self.steps in (None, point.steps)
            and self.start in (None, point.start)
            and not is_shifted(point)
            and (not self.has_radius or abs(point.eps - radius) < PIXEL_TOLERANCE)
        )


ATTACK_QUERIES = {
    "clean": AttackQuery("clean", has_radius=False),
    "imagenet": AttackQuery("clean", has_radius=False),
    "fgsm": AttackQuery("fgsm"),
    "pgd": AttackQuery("pgd"),
    "pgd10": AttackQuery("pgd", 10, "uniform"),
    "pgd20": AttackQuery("pgd", 20, "uniform"),
    "pgd_s": AttackQuery("pgd", 10, "uniform"),
    "pgd_t": AttackQuery("pgd", 10, "gauss"),
    "cw_l2": AttackQuery("cw_l2", has_radius=False),
    "cw_linf": AttackQuery("cw_linf"),
    "jsma": AttackQuery("jsma_true", has_radius=False),  # AdaAD aims at the true labels
    "aa": AttackQuery("autoattack"),
    "square": AttackQuery("square"),
}
QUOTED_QUERIES = ATTACK_QUERIES | {  # the literature's PGD has 20 steps
    "pgd_s": AttackQuery("pgd", 20, "uniform"),
}
SURROGATE_NETWORKS = {  # at the end of a column's name -> our names of the surrogate's network
    "rn34": ("resnet34", "timm/resnet34"),
    "rn50": ("resnet50", "timm/resnet50"),
    "vgg16": ("vgg16", "vgg16-bn"),
}
TEST_SETS = {  # column -> names of the test set in the configuration
    "v2": ("imagenet-v2",),
    "r": ("imagenet-r",),
    "a": ("imagenet-a",),
    "sketch": ("imagenet-sketch",),
    "stylized": ("stylized", "stylized-imagenet"),
    "c_mce": ("imagenet-c",),
}
RISKS = {"tau_bdy": "risk_gain", "r_nat": "natural_risk"}
DERD_COLUMNS = ("clean", "fgsm", "pgd_s", "pgd_t", "cw_linf", "aa")
MEANS = {  # data set of a column of means -> the columns that it averages
    "imagenet-natural": ("r", "sketch", "a"),
    "imagenet-id": ("imagenet", "v2"),
    "imagenet-all5": ("imagenet", "v2", "r", "sketch", "a"),
    "imagenet-all7": ("imagenet", "v2", "c_mce", "stylized", "r", "sketch", "a"),
}


@dataclass(frozen=True)
class Score:
    """A measured value in its column's unit.

    Attributes:
        low: lower end of its 95 % interval; None without an interval.
        high: upper end.
        image_count: number of test images.
        seed_count: number of seeds; the interval is over seeds where there are several.
    """

    value: float
    low: float | None = None
    high: float | None = None
    image_count: int | None = None
    seed_count: int = 1


@dataclass(frozen=True)
class Measurements:
    """What was measured on one model, for each of its seeds.

    Attributes:
        outcomes: on its own test set, by attack point.
        shifted: on other test sets, by the test set's name.
        risks: boundary risks by epoch; None stands for the exported weights.
        surrogates: network of each surrogate by its name.
    """

    outcomes: Sequence[Mapping[AttackPoint, Outcome]]
    shifted: Sequence[OutcomesByTestSet]
    risks: Sequence[Mapping[int | None, BoundaryRisks]]
    surrogates: Mapping[str, str]


@dataclass(frozen=True)
class ColumnQuery:
    """A printed column: its metric, the data set it was measured on, and the attacks' radius.

    Attributes:
        radius: of the attacks, in pixels of [0,1].
        epoch: the epoch of the weights; None for the exported ones.
        is_quoted: whether the paper took the value from elsewhere, where attacks are longer.
    """

    metric: str
    dataset: str
    radius: float = DEFAULT_RADIUS
    epoch: int | None = None
    is_quoted: bool = False


def measure(measured: Measurements, query: ColumnQuery) -> Score | None:
    """A column's value for one model; None if it was not measured for each of its seeds."""
    metric = query.metric
    if metric == "avg":
        return average_scores(measured, query)
    if metric in RISKS or metric == "delta":
        return measure_risk(measured, metric, query.epoch)
    if metric == "c_mce":
        return measure_mce(find_test_set(measured, metric))
    if metric in TEST_SETS:
        found = [points.get(CLEAN_POINT) for points in find_test_set(measured, metric)]
    else:
        found = [
            points.get(find_point(points, measured.surrogates, query))
            for points in measured.outcomes
        ]
    return estimate([o for o in found if o is not None]) if found and None not in found else None


def estimate(outcomes: Sequence[Outcome]) -> Score:
    """Accuracy in percent with its interval: over images for one seed, else over seeds."""
    accuracies = [outcome.accuracy for outcome in outcomes]
    image_count = min(len(outcome.index) for outcome in outcomes)
    if len(outcomes) > 1:
        interval = student_t_interval(accuracies)
    else:
        interval = wilson_interval(accuracies[0], image_count)
    ends = (PERCENT * interval.low, PERCENT * interval.high)
    return Score(PERCENT * interval.value, *ends, image_count, len(outcomes))


def find_point(
    points: Mapping[AttackPoint, Outcome], surrogates: Mapping[str, str], query: ColumnQuery
) -> AttackPoint | None:
    """The attack point of a column, at its radius; steps of 2/255 and few restarts go first."""
    attack, _, surrogate = query.metric.partition("_transfer_")
    asked = (QUOTED_QUERIES if query.is_quoted else ATTACK_QUERIES).get(attack)
    networks = SURROGATE_NETWORKS.get(surrogate, ())
    if asked is None:
        return None
    found = [
        point
        for point in points
        if asked.fits(point, query.radius)
        and is_made_on(networks, None if point.surrogate is None else surrogates[point.surrogate])
    ]
    return min(found, key=rank_by_usual_step, default=None)


def is_made_on(networks: Sequence[str], surrogate: str | None) -> bool:
    """Whether an attack was made on one of these networks; without any, on the model itself."""
    return surrogate in networks if networks else surrogate is None


def rank_by_usual_step(point: AttackPoint) -> tuple[float, int]:
    """A sort key: how far the step is from 2/255, then the number of restarts."""
    return abs((point.step or DEFAULT_STEP_SIZE) - DEFAULT_STEP_SIZE), point.restarts or 1


def find_test_set(measured: Measurements, metric: str) -> list[Mapping[AttackPoint, Outcome]]:
    """Each seed's outcomes on a column's test set; empty if one has none."""
    names = TEST_SETS[metric]
    found = [next((s[n] for n in names if n in s), None) for s in measured.shifted]
    return [] if None in found else [points for points in found if points is not None]


def measure_mce(outcomes: Sequence[Mapping[AttackPoint, Outcome]]) -> Score | None:
    """The mean corruption error, over seeds where there are several; None without all 75."""
    values, counts = [], []
    for points in outcomes:
        corrupted = {p: o for p, o in points.items() if is_corruption(p)}
        errors = {(p.corruption, p.severity): 1 - o.accuracy for p, o in corrupted.items()}
        values.append(mean_corruption_error(errors))
        counts += [len(o.index) for o in corrupted.values()]
    return None if not values or None in values else summarise(values, min(counts))


def measure_risk(measured: Measurements, metric: str, epoch: int | None) -> Score | None:
    """A share of DARWIN's Table 8 at an epoch; delta is the gain less the natural risk."""
    found = [risks.get(epoch) for risks in measured.risks]
    known = [risks for risks in found if risks is not None]
    if not known or len(known) < len(found):
        return None
    if metric == "delta":
        values = [risks.risk_gain - risks.natural_risk for risks in known]
    else:
        values = [getattr(risks, RISKS[metric]) for risks in known]
    return summarise(values, min(risks.image_count for risks in known))


def summarise(values: Sequence[float], image_count: int) -> Score:
    """The mean over seeds with its interval; without an interval for one seed."""
    if len(values) == 1:
        return Score(values[0], image_count=image_count)
    interval = student_t_interval(values)
    return Score(interval.value, interval.low, interval.high, image_count, len(values))


def average_scores(measured: Measurements, query: ColumnQuery) -> Score | None:
    """The mean of other columns, without an interval; an mCE counts as 100 less the mCE."""
    columns = MEANS.get(query.dataset, DERD_COLUMNS)
    scores = [measure(measured, replace(query, metric=metric)) for metric in columns]
    known = [score for score in scores if score is not None]
    if len(known) < len(columns):
        return None
    values = [
        PERCENT - score.value if metric == "c_mce" else score.value
        for metric, score in zip(columns, known, strict=True)
    ]
    counts = [score.image_count for score in known if score.image_count is not None]
    return Score(sum(values) / len(values), image_count=min(counts))
