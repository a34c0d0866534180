"""Charts of accuracy: the trade-off of clean against worst case, and accuracy against eps."""

from collections.abc import Sequence
from dataclasses import replace

from pipeline.core.attack_protocol import AttackPoint, find_norm
from pipeline.report.attack_labels import format_attack, format_axis, scale_for_axis
from pipeline.report.outcomes import CLEAN_POINT, ModelGroup, Study, find_accuracy_curves
from pipeline.report.page.chart import (
    COLOURS,
    Chart,
    assign_styles,
    describe_members,
    finish_chart,
    name_group,
)
from pipeline.report.page.name_positions import place_names
from pipeline.report.results.answer import measure_training
from pipeline.report.results.rows import count_parameters
from pipeline.report.results.threats import Score, Threat

REVISION = 4

SMALLEST, LARGEST, CROWDED = 9.0, 34.0, 18.0  # pixels of a marker; the largest among many
MOST_LABELS = 16  # models beyond which a chart names them on hover alone
SYMBOLS = {"student": "circle", "teacher": "diamond"}


def draw_tradeoff(study: Study, threats: Sequence[Threat]) -> Chart | None:
    """Clean accuracy against the worst case under attack, else under shift; None without either."""
    by_name = {threat.name: threat for threat in threats}
    other = by_name.get("attack") or by_name.get("shift")
    if "clean" not in by_name or other is None:
        return None
    from plotly.graph_objects import Figure

    clean, figure = by_name["clean"], Figure()
    shown = [
        g for g in study.groups if {(g.kind, g.name)} <= clean.scores.keys() & other.scores.keys()
    ]
    sizes = {
        "size: parameters": scale_sizes([count_parameters(g.members[0]) or 0 for g in shown]),
        "size: training's CPU-seconds": scale_sizes([measure_training(g) for g in shown]),
    }
    kinds = [kind for kind in SYMBOLS if any(g.kind == kind for g in shown)]
    places = {kind: [i for i, g in enumerate(shown) if g.kind == kind] for kind in kinds}
    for kind, colour in zip(kinds, COLOURS, strict=False):
        add_models(figure, [shown[i] for i in places[kind]], (clean, other), kind, colour)
    names = place_names(*(list_percents(threat, shown) for threat in (clean, other)))
    buttons = []
    for label, values in sizes.items():
        by_kind = [[values[i] for i in places[kind]] for kind in kinds]
        buttons.append({"label": label, "method": "restyle", "args": [{"marker.size": by_kind}]})
    for trace, kind in zip(figure.data, kinds, strict=True):
        trace.marker.size = [next(iter(sizes.values()))[i] for i in places[kind]]
        trace.textposition = [names[i] for i in places[kind]]
    menu = {"buttons": buttons, "x": 1, "xanchor": "right", "y": 1.14, "showactive": True}
    figure.update_layout(updatemenus=[menu])
    words = "worst case under attack" if other.name == "attack" else "mean under shift"
    figure.update_xaxes(title="clean accuracy (%)")
    figure.update_yaxes(title=f"{words} (%)")
    caption = (
        f"Right and up is better. {other.words}: {describe_counts(other)}; clean: "
        f"{describe_counts(clean)}. Bars are 95 % intervals. Hover over a model for its "
        "numbers, seeds and keys."
    )
    return finish_chart("tradeoff", "Trade-off", caption, figure, 460)


def describe_counts(threat: Threat) -> str:
    """The number of images of a threat's scores: `n = 1,000`."""
    counts = sorted({score.image_count for score in threat.scores.values()})
    return "n = " + "/".join(f"{n:,}" for n in counts)


def list_percents(threat: Threat, groups: Sequence[ModelGroup]) -> list[float]:
    """Accuracy of each model under a threat, in percent."""
    return [round(100 * threat.scores[g.kind, g.name].interval.value, 2) for g in groups]


def scale_sizes(values: Sequence[float]) -> list[float]:
    """Markers' diameters in pixels, whose areas grow with the values."""
    top = max(values, default=0) or 1
    largest = LARGEST if len(values) <= MOST_LABELS else CROWDED
    return [round(max(SMALLEST, largest * (value / top) ** 0.5), 1) for value in values]


def add_models(
    figure, groups: Sequence[ModelGroup], threats: tuple[Threat, Threat], kind: str, colour: str
) -> None:
    """Add the markers of all models of a kind, with their error bars and hovers."""
    clean, other = ([t.scores[g.kind, g.name] for g in groups] for t in threats)
    named = len(groups) <= MOST_LABELS
    x, y = (list_percents(threat, groups) for threat in threats)
    figure.add_scatter(
        x=x,
        y=y,
        error_x=make_error_bars(clean),
        error_y=make_error_bars(other),
        mode="markers+text" if named else "markers",
        text=[g.name for g in groups],
        cliponaxis=False,  # a name may reach over the edge
        name=f"{kind}s",
        marker={"symbol": SYMBOLS[kind], "color": colour, "opacity": 0.85},
        customdata=[
            [describe_score(a), describe_score(b), describe_size(g), describe_members(g)]
            for g, a, b in zip(groups, clean, other, strict=True)
        ],
        hovertemplate=(
            "<b>%{text}</b><br>clean %{customdata[0]}<br>"
            f"{threats[1].name} %{{customdata[1]}}<br>"
            "%{customdata[2]}<br>%{customdata[3]}<extra></extra>"
        ),
    )


def make_error_bars(scores: Sequence[Score]) -> dict:
    """Error bars in percent, thin and faint."""
    ends = [(s.interval.high - s.interval.value, s.interval.value - s.interval.low) for s in scores]
    up, down = ([round(100 * value, 2) for value in side] for side in zip(*ends, strict=True))
    return {
        "type": "data", "array": up, "arrayminus": down, "thickness": 1, "width": 0,
        "color": "rgba(128,128,128,0.45)",
    }  # fmt: skip


def describe_score(score: Score) -> str:
    """A score in words: `63.9 % [60.9, 66.8] (n = 1,000)`."""
    value, low, high = (100 * v for v in vars(score.interval).values())
    return f"{value:.1f} % [{low:.1f}, {high:.1f}] (n = {score.image_count:,})"


def describe_size(group: ModelGroup) -> str:
    """A model's parameters and the cost of its training, in words."""
    count = count_parameters(group.members[0])
    weights = "unknown" if count is None else f"{count:,}"
    return f"{weights} parameters, {measure_training(group):,.0f} CPU-seconds"


def draw_curves(study: Study) -> Chart | None:
    """Accuracy against eps, a panel for each attack with several radii; None without one."""
    groups = study.evaluated_groups
    attacks = find_accuracy_curves(groups)
    if not attacks:
        return None
    from plotly.subplots import make_subplots

    titles = [format_attack(attack) for attack in attacks]
    figure = make_subplots(rows=len(attacks), cols=1, subplot_titles=titles, vertical_spacing=0.12)
    styles = assign_styles(groups)
    for row, (attack, radii) in enumerate(attacks.items(), 1):
        for group in groups:
            curve = make_curve(group, attack, radii)
            curve |= {"line": styles[group.kind, group.name], "legendgroup": name_group(group)}
            figure.add_scatter(**curve, showlegend=row == 1, row=row, col=1)
        figure.update_xaxes(title=format_axis(attack), row=row, col=1)
    figure.update_yaxes(title="accuracy (%)", rangemode="tozero")
    caption = (
        "Accuracy against the radius of the attack; at 0 clean images. Teachers are dashed; "
        "a line is broken at a radius that was not measured; an open circle saw fewer images than "
        "the rest of its row in the table. "
        "A click in the legend hides a model, a double click shows it alone."
    )
    height = 90 + 340 * len(attacks) + 6 * len(groups)
    return finish_chart("curves", "Accuracy against eps", caption, figure, height)


def make_curve(group: ModelGroup, attack: AttackPoint, radii: Sequence[float]) -> dict:
    """One model's curve: what Plotly wants of a line, with a gap where it was not measured."""
    points = {eps: replace(attack, eps=eps) for eps in radii}
    if CLEAN_POINT in group.common_points and points.get(0.0) not in group.common_points:
        points = {0.0: CLEAN_POINT, **points}
    found = {eps: group.estimate_accuracy((p,)) for eps, p in points.items()}
    images = [
        min(len(o[p].index) for o in group.outcomes) if p in group.common_points else 0
        for p in points.values()
    ]
    unit = "" if find_norm(attack) else "/255"
    return {
        "x": [round(scale_for_axis(attack, eps), 3) for eps in found],
        "y": [None if e is None else round(100 * e.value, 2) for e in found.values()],
        "mode": "lines+markers",
        "marker": {
            "size": 8,
            "symbol": ["circle-open" if n < group.image_count else "circle" for n in images],
        },
        "name": name_group(group),
        "customdata": [
            [None, None, n] if e is None else [round(100 * e.low, 1), round(100 * e.high, 1), n]
            for e, n in zip(found.values(), images, strict=True)
        ],
        "hovertemplate": (
            f"eps %{{x}}{unit}: "
            "%{y:.1f} % [%{customdata[0]}, %{customdata[1]}], n = %{customdata[2]}"
        ),
    }
