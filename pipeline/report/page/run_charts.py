"""Charts of the run: training curves, cost by stage, and who reused what."""

from collections.abc import Sequence

from pipeline.report.artefact_tables import SHARED_KINDS, group_artefacts, sum_costs
from pipeline.report.figures import (
    find_groups_with_cosines,
    list_validation_accuracies,
    read_histories,
    sum_losses,
)
from pipeline.report.outcomes import ModelGroup, Study
from pipeline.report.page.chart import COLOURS, Chart, assign_styles, finish_chart, name_group
from pipeline.store.artefact import STAGES_BY_KIND, Artefact

REVISION = 1

BAR_COLOURS = ("#7FB2D9", "#0072B2")  # of the parts of a bar, in turn
MOST_TICKS = 20  # of an axis with one for each epoch
DIRECT, INDIRECT = 1.0, 0.45  # how strongly the two kinds of reuse are shown


def draw_training(study: Study) -> Chart | None:
    """Validation accuracy and loss by epoch, a line for each seed; None without a training."""
    groups = [group for group in study.groups if read_histories(group)]
    if not groups:
        return None
    from plotly.subplots import make_subplots

    titles = ["validation accuracy (%)", "training loss (scales differ between objectives)"]
    figure = make_subplots(rows=2, cols=1, subplot_titles=titles, vertical_spacing=0.14)
    styles = assign_styles(groups)
    for group in groups:
        add_histories(figure, group, styles[group.kind, group.name])
    figure.update_xaxes(title="epoch", row=2)
    caption = (
        "One line a seed: clean accuracy on the validation split, and the sum of the loss terms. "
        "A click in the legend hides a model, a double click shows it alone."
    )
    return finish_chart("training", "Training", caption, figure, 640 + 6 * len(groups))


def add_histories(figure, group: ModelGroup, line: dict) -> None:
    """Add both curves of each of a model's seeds."""
    for place, history in enumerate(read_histories(group)):
        epochs = [record["epoch"] for record in history]
        accuracies, losses = list_validation_accuracies(history), sum_losses(history)
        for row, values in ((1, accuracies), (2, losses)):
            if not values:
                continue
            figure.add_scatter(
                x=epochs[: len(values)],
                y=[float(f"{value:.4g}") for value in values],
                mode="lines",
                name=name_group(group),
                legendgroup=name_group(group),
                showlegend=place == 0 and (row == 1 or not accuracies),
                line=line,
                hovertemplate="epoch %{x}: %{y}",
                row=row,
                col=1,
            )


def draw_cosine(study: Study) -> Chart | None:
    """The epochs' mean cosine of both teachers' gradients (DERD, Fig. 5); None without any."""
    groups = find_groups_with_cosines(study)
    if not groups:
        return None
    from plotly.graph_objects import Figure

    figure, styles = Figure(), assign_styles(groups)
    for group in groups:
        for place, history in enumerate(read_histories(group)):
            figure.add_scatter(
                x=[record["epoch"] for record in history],
                y=[round(record["cosine"], 4) for record in history],
                mode="lines+markers",
                name=name_group(group),
                legendgroup=name_group(group),
                showlegend=place == 0,
                line=styles[group.kind, group.name],
                hovertemplate="epoch %{x}: %{y}",
            )
    figure.update_xaxes(title="epoch", dtick=1 if max_epoch(groups) < MOST_TICKS else None)
    figure.update_yaxes(title="cosine of the gradients", range=[-1, 1])
    caption = (
        "Cosine of the two teachers' gradients in DERD's students, mean of each epoch: below zero "
        "they pull against each other. One line a seed."
    )
    return finish_chart("cosine", "Agreement of two teachers", caption, figure, 360)


def max_epoch(groups: Sequence[ModelGroup]) -> int:
    """The largest number of epochs that one of the models was trained for."""
    return max(len(history) for group in groups for history in read_histories(group))


def draw_cost(study: Study) -> Chart | None:
    """CPU-seconds by stage, a part of the bar for each artefact; None without artefacts."""
    if not study.artefacts:
        return None
    from plotly.graph_objects import Figure

    ends: dict[str, float] = {}
    bars: dict[str, list] = {"y": [], "x": [], "base": [], "text": [], "color": []}
    for (kind, name), artefacts in group_artefacts(study).items():
        cost = sum_costs(artefacts)
        seconds = round(cost["cpu_seconds"], 1)
        bars["y"].append(kind)
        bars["x"].append(seconds)
        bars["base"].append(round(ends.get(kind, 0.0), 1))
        bars["color"].append(BAR_COLOURS[bars["y"].count(kind) % 2])
        size = f"{cost['bytes'] / 1e6:,.1f} MB, at most {cost['peak_mb']:,.0f} MB of memory"
        bars["text"].append(f"{kind} {name}<br>{seconds:,.0f} CPU-seconds<br>{size}")
        ends[kind] = ends.get(kind, 0.0) + seconds
    colours = bars.pop("color")
    figure = Figure()
    figure.add_bar(
        **bars,
        orientation="h",
        marker={"color": colours, "line": {"width": 1, "color": "rgba(255,255,255,0.6)"}},
        textposition="none",
        hovertemplate="%{text}<extra></extra>",
    )
    figure.update_layout(barmode="overlay", showlegend=False)
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(title="CPU-seconds")
    caption = (
        "CPU-seconds of each stage, all attempts added up; a part of a bar is one artefact, or "
        "all evaluations of a suite."
    )
    return finish_chart("cost", "Cost by stage", caption, figure, 110 + 42 * len(ends))


def draw_reuse(study: Study) -> Chart | None:
    """Which student was made from which shared artefact; None without either."""
    shared = [(k, n, a) for k in SHARED_KINDS for n, a in study.get_artefacts(k).items()]
    students = study.get_artefacts("student")
    if not shared or not students:
        return None
    from plotly.graph_objects import Figure

    ancestors = {name: find_ancestors(study, made) for name, made in students.items()}
    rows, texts = [], []
    for kind, name, artefact in shared:
        key = artefact.manifest.key
        strengths = [ancestors[student].get(key, 0.0) for student in students]
        rows.append([value or None for value in strengths])
        texts.append(
            [
                describe_use(student, f"{kind} {name}", value)
                for student, value in zip(students, strengths, strict=True)
            ]
        )
    figure = Figure()
    figure.add_heatmap(
        z=rows,
        x=list(students),
        y=[f"{kind} {name}" for kind, name, _ in shared],
        text=texts,
        hovertemplate="%{text}<extra></extra>",
        colorscale=[[0, "#cfe3f2"], [1, COLOURS[0]]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=2,
        ygap=2,
    )
    figure.update_yaxes(autorange="reversed")
    figure.update_xaxes(tickangle=-45)
    caption = "Dark: the student reads it itself. Light: something reads it that the student reads."
    return finish_chart("reuse", "Who reused what", caption, figure, 170 + 30 * len(shared))


def describe_use(student: str, shared: str, strength: float) -> str:
    """What a cell of the reuse chart says."""
    verbs = {DIRECT: "reads", INDIRECT: "is made, through others, from", 0.0: "does not use"}
    return f"{student} {verbs[strength]} {shared}"


def find_ancestors(study: Study, artefact: Artefact) -> dict[str, float]:
    """All that an artefact is made from, by key: `DIRECT` or `INDIRECT`."""
    by_key = {a.manifest.key: a for a in study.artefacts.values()}
    found: dict[str, float] = {}
    due: Sequence[tuple[str, float]] = [(key, DIRECT) for key in artefact.manifest.inputs.values()]
    while due:
        (key, strength), *due = due
        if found.get(key, 0.0) >= strength or key not in by_key:
            continue
        found[key] = strength
        due += [(k, INDIRECT) for k in by_key[key].manifest.inputs.values()]
    return found


def order_kinds(study: Study) -> list[str]:
    """The kinds of which the study has artefacts, in the order of the graph."""
    present = {artefact.manifest.kind for artefact in study.artefacts.values()}
    return [kind for kind in STAGES_BY_KIND if kind in present]
