"""Robust accuracy against what it cost, for students that read different banks.

A student's cost is its own training and its share of the bank, in CPU-seconds. The bank's network
in `against` counts as a part of the bank if it is a student: it was trained for that.
"""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint
from pipeline.report.artefact_tables import sum_costs
from pipeline.report.attack_labels import format_attack_at
from pipeline.report.attack_points import is_at, is_shifted, keep_one_norm, rank_by_strength
from pipeline.report.figures import LINE_STYLES, open_figure
from pipeline.report.outcomes import DEFAULT_EPS, ModelGroup, Study
from pipeline.report.statistics.intervals import ConfidenceInterval
from pipeline.report.tables import format_amount, format_caption, format_markdown_table
from pipeline.store.artefact import Artefact

REVISION = 3

TITLE = "Robustness and its cost, by bank"
FILE = "figures/bank-costs.png"
NO_BANK, GREY = "no bank", "#6b6b6b"
MARKERS = "osD^vPX*<>"
FILLINGS = ("full", "none", "left", "bottom", "right", "top")
UNREAD_FIELDS = {"shards", "block", "encoding", "outputs", "views"}  # how samples are stored


@dataclass(frozen=True)
class CostedStudent:
    """A student's cost in CPU-seconds, mean over its seeds, and its accuracy under an attack.

    Attributes:
        name: in the configuration.
        bank: the first bank with the samples that it reads; `no bank` without any.
        objective: its objective, and whether it reads stored views.
        own_seconds: of its training.
        bank_seconds: its share of the bank, which all students that read it have in equal parts.
        accuracy: under the attack, in [0,1].
    """

    name: str
    bank: str
    objective: str
    own_seconds: float
    bank_seconds: float
    accuracy: ConfidenceInterval

    @property
    def seconds(self) -> float:
        """Training and the share of the bank."""
        return self.own_seconds + self.bank_seconds

    @property
    def seconds_per_point(self) -> float:
        """CPU-seconds for each percentage point of accuracy; infinite at accuracy 0."""
        points = 100 * self.accuracy.value
        return self.seconds / points if points else float("inf")


def add_section(folder: Path, study: Study) -> tuple[list[str], list[str]]:
    """The section's Markdown and the file of its figure, drawn below a report's folder.

    Both are empty unless students of two banks went through one attack.
    """
    groups = list_students(study)
    point = choose_attack(groups)
    if point is None:
        return [], []
    students = collect_students(study, groups, point)
    draw_students(folder / FILE, students, point)
    note = (
        f"Accuracy under {format_attack_at(point)} with 95 % intervals. CPU-seconds are those of "
        "training, mean over seeds, and an equal share of the bank for each student that reads it. "
        "A student that the bank is made against counts as a part of the bank; teachers and "
        "discretisers are left out."
    )
    picture = f"![{TITLE}]({FILE})"
    return [f"## {TITLE}", picture, format_table(students), format_caption(note)], [FILE]


def list_students(study: Study) -> list[ModelGroup]:
    """The evaluated students of a data set, if two banks or more are among what they read."""
    groups = [
        group
        for group in study.evaluated_groups
        if group.kind == "student" and "dataset" in group.members[0].manifest.inputs
    ]
    banks = {group.members[0].manifest.inputs.get("bank") for group in groups} - {None}
    return groups if len(banks) > 1 else []


def choose_attack(groups: Sequence[ModelGroup]) -> AttackPoint | None:
    """The strongest attack that every student went through, at 8/255 if possible; or None.

    One of another norm than L-infinity is chosen where there is no other.
    """
    if not groups:
        return None
    points = set.intersection(*(group.common_points for group in groups))
    own = (p for p in points if p.eps > 0 and p.surrogate is None and not is_shifted(p))
    own = keep_one_norm(own)
    usual = [p for p in own if is_at(p, DEFAULT_EPS)]
    return max(usual or own, key=rank_by_strength, default=None)


def collect_students(
    study: Study, groups: Sequence[ModelGroup], point: AttackPoint
) -> list[CostedStudent]:
    """Cost and accuracy of each student."""
    students = study.get_artefacts("student").values()
    readers = Counter(s.manifest.inputs.get("bank") for s in students)
    banks = {bank.manifest.key: bank for bank in study.get_artefacts("bank").values()}
    found = []
    for group in groups:
        key = group.members[0].manifest.inputs.get("bank")
        bank = banks.get(key)
        share = 0.0 if bank is None else sum_bank_seconds(study, bank) / readers[key]
        own = sum_costs(group.members)["cpu_seconds"] / len(group.members)
        label = NO_BANK if bank is None else find_samples_name(study, bank)
        accuracy = group.estimate_accuracy((point,))
        objective = describe_objective(group, bank)
        found.append(CostedStudent(group.name, label, objective, own, share, accuracy))
    return found


def sum_bank_seconds(study: Study, bank: Artefact) -> float:
    """CPU-seconds of a bank, with those of the student that it is made against."""
    reference = study.artefacts.get(f"student/{bank.manifest.inputs.get('against')}")
    return sum_costs([bank, *([reference] if reference else [])])["cpu_seconds"]


def find_samples_name(study: Study, bank: Artefact) -> str:
    """The name of the first bank that is made as this one; they may differ in what is stored."""

    def identify(other: Artefact) -> tuple:
        return other.manifest.inputs, get_spec(other.manifest).model_dump(exclude=UNREAD_FIELDS)

    own = identify(bank)
    return next(n for n, other in study.get_artefacts("bank").items() if identify(other) == own)


def describe_objective(group: ModelGroup, bank: Artefact | None) -> str:
    """A student's objective: `rslad_dad`, or `rslad_dad, stored views`."""
    (name,) = get_spec(group.members[0].manifest).objective
    has_views = bank is not None and get_spec(bank.manifest).views is not None
    return f"{name}, stored views" if has_views else name


def format_table(students: Sequence[CostedStudent]) -> str:
    """The table of what each student cost, and of its accuracy for that."""
    rows = [
        [
            *(s.name, s.bank, s.objective, format_amount(s.own_seconds)),
            *(format_amount(s.bank_seconds), format_share(s.accuracy)),
            format_amount(s.seconds_per_point) if s.accuracy.value else "–",
        ]
        for s in students
    ]
    head = ["student", "bank", "objective", "training, CPU-s", "share of the bank, CPU-s"]
    head += ["robust accuracy", "CPU-s a point"]
    return format_markdown_table(head, rows, left_columns=3)


def format_share(accuracy: ConfidenceInterval) -> str:
    """An accuracy with its interval in percent: ``25.0 [20.1, 30.7]``."""
    low, high = (100 * min(max(end, 0.0), 1.0) for end in (accuracy.low, accuracy.high))
    return f"{100 * accuracy.value:.1f} [{low:.1f}, {high:.1f}]"


def draw_students(path: Path, students: Sequence[CostedStudent], point: AttackPoint) -> None:
    """Draw accuracy against cost: a look for each bank, a marker for each objective."""
    looks = assign_looks(dict.fromkeys(s.bank for s in students))
    objectives = dict.fromkeys(s.objective for s in students)
    markers = {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(objectives)}
    with open_figure(path, 8.0, 4.8) as figure:
        axes = figure.subplots()
        for student in students:
            plot_student(axes, student, looks[student.bank], markers[student.objective])
        axes.set(xlabel="CPU-seconds of training, with the share of the bank", xlim=(0, None))
        axes.set(ylabel=f"accuracy under {format_attack_at(point)} (%)", ylim=(0, None))
        plain = {"linestyle": "none", "marker": "o"}
        shown = [Line2D([], [], label=n, **plain, **look) for n, look in looks.items()]
        plain = {"linestyle": "none", "color": "black", "markerfacecolor": "none"}
        shown += [Line2D([], [], marker=m, label=n, **plain) for n, m in markers.items()]
        figure.legend(handles=shown, loc="outside right upper", frameon=False)


def assign_looks(banks: Collection[str]) -> dict[str, dict[str, str]]:
    """Colour and filling of each bank's markers; fillings tell apart banks that share a colour."""
    palette = LINE_STYLES["student"][0]
    looks = {}
    for place, name in enumerate(bank for bank in banks if bank != NO_BANK):
        turn, colour = divmod(place, len(palette))
        looks[name] = {"color": palette[colour], "fillstyle": FILLINGS[turn % len(FILLINGS)]}
    if NO_BANK in banks:
        looks[NO_BANK] = {"color": GREY, "fillstyle": "full"}
    return looks


def plot_student(axes: Axes, student: CostedStudent, look: dict[str, str], marker: str) -> None:
    """Plot one student with its interval."""
    value, low, high = student.accuracy.value, student.accuracy.low, student.accuracy.high
    ends = [[100 * (value - max(low, 0.0))], [100 * (min(high, 1.0) - value)]]
    style = {**look, "marker": marker, "markersize": 7, "capsize": 3, "lw": 1.2}
    axes.errorbar([student.seconds], [100 * value], yerr=ends, linestyle="none", **style)
