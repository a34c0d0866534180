"""Clean and robust accuracy over the radius that students were trained with (AdaAD, Fig. 2)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.config.specs import get_spec
from pipeline.core.attack_protocol import AttackPoint, name_norm
from pipeline.report.attack_labels import format_attack_at
from pipeline.report.attack_points import is_at, is_shifted, rank_by_strength
from pipeline.report.figures import LINE_STYLES
from pipeline.report.outcomes import CLEAN_POINT, DEFAULT_EPS, ROUNDING_DIGITS, ModelGroup, Study
from pipeline.report.paper_figures.canvas import (
    MARKERS,
    Canvas,
    describe_counts,
    describe_seeds,
)
from pipeline.report.statistics.intervals import ConfidenceInterval
from pipeline.schema import make_plugin

REVISION = 4

SIZES = ("eps", "step")  # options that move with the radius in AdaAD's sweep
SeriesKey = tuple[str, ...]


@dataclass(frozen=True)
class RadiusSeries:
    """Students that differ in their radius of training alone: a group by its radius in [0,1]."""

    label: str
    groups: dict[float, ModelGroup]


def collect_series(study: Study) -> list[RadiusSeries]:
    """Every series of evaluated students with two radii or more, radii ascending.

    Students of a series have the same spec and inputs but for the objective's `eps`, and the
    `step` that is scaled with it.
    """
    found: dict[SeriesKey, dict[float, ModelGroup]] = {}
    for group in study.evaluated_groups:
        if group.members[0].manifest.kind != "student":  # a generator's warm-up has no such attack
            continue
        if (eps := read_training_radius(group)) is not None:
            found.setdefault(make_series_key(group), {}).setdefault(eps, group)
    return [
        RadiusSeries(label_series(study, groups), dict(sorted(groups.items())))
        for groups in found.values()
        if len(groups) > 1
    ]


def get_options(group: ModelGroup) -> tuple[str, Mapping]:
    """Name of a student's objective, and its options as the configuration gives them."""
    ((name, options),) = get_spec(group.members[0].manifest).objective.items()
    return name, options


def read_training_radius(group: ModelGroup) -> float | None:
    """The radius of the attack that a student was trained with; None if it has none."""
    _, options = get_options(group)
    if "eps" in options:
        return round(float(options["eps"]), ROUNDING_DIGITS)
    eps = getattr(find_training_attack(group), "eps", None)
    return round(float(eps), ROUNDING_DIGITS) if isinstance(eps, float) else None


def find_training_attack(group: ModelGroup) -> Any:
    """The attack of a student's objective, with its radius and norm; None if it has none."""
    objective = make_plugin("objectives", "Objective", *get_options(group))
    return getattr(objective, "inner_attack", None) or getattr(objective, "attack", None)


def make_series_key(group: ModelGroup) -> SeriesKey:
    """What students of one series have in common, as text: all but what may differ.

    Epochs whose weights are kept as well change no student.
    """
    name, options = get_options(group)
    manifest = group.members[0].manifest
    kept = sorted((k, repr(v)) for k, v in options.items() if k not in SIZES)
    recipe = {k: v for k, v in manifest.spec["recipe"].items() if k != "keep_epochs"}
    whole = manifest.spec | {"recipe": recipe}
    spec = sorted((k, repr(v)) for k, v in whole.items() if k not in ("objective", "seed"))
    return name, repr(kept), repr(spec), repr(sorted(manifest.inputs.items()))


def label_series(study: Study, groups: Mapping[float, ModelGroup]) -> str:
    """The objective's name, the teachers', and the norm of a radius that is not in L-infinity."""
    first = next(iter(groups.values()))
    inputs = first.members[0].manifest.inputs
    teachers = [study.find_name(k) for role, k in inputs.items() if role.startswith("teachers.")]
    norm = name_norm(find_training_attack(first))
    about = [*teachers, *([f"radius in {norm}"] if norm else [])]
    return get_options(first)[0] + (f" ({', '.join(about)})" if about else "")


def find_strongest_attack(groups: list[ModelGroup]) -> AttackPoint | None:
    """The strongest attack at 8/255 on the models themselves that all groups have."""
    common = set.intersection(*(group.common_points for group in groups))
    usual = [p for p in common if is_at(p, DEFAULT_EPS) and not p.surrogate and not is_shifted(p)]
    return max(usual, key=rank_by_strength, default=None)


def draw_training_radii(canvas: Canvas) -> str:
    """Draw clean and robust accuracy over the radius of training, one line for each series."""
    series = collect_series(canvas.study)
    if not series:
        return ""
    groups = [group for s in series for group in s.groups.values()]
    attack = find_strongest_attack(groups)
    points = [CLEAN_POINT, *([attack] if attack else [])]
    colours, _ = LINE_STYLES["student"]
    with canvas.open_figure(2.6 + 3.6 * len(points), 3.8) as figure:
        panels = figure.subplots(1, len(points), squeeze=False)[0]
        for axes, point in zip(panels, points, strict=True):
            for place, one in enumerate(series):
                values = estimate_series(one, point)
                axes.errorbar(
                    [255 * eps for eps in values],
                    [100 * e.value for e in values.values()],
                    yerr=[
                        [100 * max(0.0, e.value - max(e.low, 0)) for e in values.values()],
                        [100 * max(0.0, min(e.high, 1) - e.value) for e in values.values()],
                    ],
                    label=one.label,
                    color=colours[place % len(colours)],
                    linestyle="-" if place < len(colours) else ":",
                    marker=MARKERS[place % len(MARKERS)],
                    capsize=2,
                    lw=1.4,
                )
            axes.set(title=format_attack_at(point), xlabel="radius of training (1/255)")
        panels[0].set_ylabel("accuracy (%)")
        figure.legend(
            *panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False
        )
    under = f"clean, and under {format_attack_at(attack)}" if attack else "clean"
    return (
        f"Accuracy {under}, of students over the radius of the attack in their training. Bars: "
        "95 % intervals, over images for one seed, else over seeds. "
        f"{describe_counts([group.image_count for group in groups])} test images, "
        f"{describe_seeds(groups)}. Of a series only `eps` and `step` differ."
    )


def estimate_series(series: RadiusSeries, point: AttackPoint) -> dict[float, ConfidenceInterval]:
    """Accuracy in [0,1] by radius, where it was measured."""
    found = {eps: group.estimate_accuracy((point,)) for eps, group in series.groups.items()}
    return {eps: estimate for eps, estimate in found.items() if estimate is not None}
