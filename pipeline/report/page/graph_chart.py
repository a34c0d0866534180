"""The graph of artefacts: what was made from what, with sizes and seconds."""

from dataclasses import dataclass

from pipeline.report.artefact_tables import group_artefacts, sum_costs
from pipeline.report.outcomes import Study
from pipeline.report.page.chart import COLOURS, Chart, finish_chart
from pipeline.report.page.run_charts import order_kinds

REVISION = 1

MOST_LABELS = 18  # nodes of a column beyond which names are on hover alone
ROW_HEIGHT, LEAST_HEIGHT, MOST_HEIGHT = 22, 320, 1400  # pixels
SMALLEST, GROWTH = 8.0, 2.6  # pixels of a node's diameter, and for each tenfold of its bytes


@dataclass(frozen=True)
class Node:
    """One artefact, or the evaluations of a suite, at a place of the chart."""

    kind: str
    name: str
    x: float
    y: float
    size: float
    hover: str


def draw_graph(study: Study) -> Chart | None:
    """The graph from left to right, a column for each kind; None without artefacts."""
    if not study.artefacts:
        return None
    from plotly.graph_objects import Figure

    nodes, places, figure = place_nodes(study), {}, Figure()
    for node, keys in nodes:
        places |= dict.fromkeys(keys, node)
    edges = find_edges(study, places)
    line = {"x": [], "y": []}
    for source, target in edges:
        line["x"] += [source.x, target.x, None]
        line["y"] += [source.y, target.y, None]
    grey = {"color": "rgba(128,128,128,0.35)", "width": 1}
    figure.add_scatter(**line, mode="lines", line=grey, hoverinfo="skip", showlegend=False)
    kinds = order_kinds(study)
    for place, kind in enumerate(kinds):
        add_column(figure, [n for n, _ in nodes if n.kind == kind], COLOURS[place % len(COLOURS)])
    figure.update_layout(showlegend=False)
    figure.update_xaxes(
        tickvals=list(range(len(kinds))), ticktext=kinds, showgrid=False, side="top",
        range=[-0.4, len(kinds) - 0.4],
    )  # fmt: skip
    figure.update_yaxes(visible=False)
    longest = max(sum(n.kind == kind for n, _ in nodes) for kind in kinds)
    height = min(MOST_HEIGHT, max(LEAST_HEIGHT, 80 + ROW_HEIGHT * longest))
    caption = (
        "Each dot is an artefact, made from those on its left that it is joined to; larger dots "
        "are larger files. Hover for its key, seconds and bytes."
    )
    return finish_chart("graph", "The graph", caption, figure, height)


def place_nodes(study: Study) -> list[tuple[Node, list[str]]]:
    """The nodes and the keys that each stands for; a column's nodes stand evenly."""
    groups, kinds = group_artefacts(study), order_kinds(study)
    found = []
    for x, kind in enumerate(kinds):
        column = [(name, made) for (k, name), made in groups.items() if k == kind]
        for row, (name, made) in enumerate(column):
            cost, keys = sum_costs(made), [a.manifest.key for a in made]
            shown = keys[0] if len(keys) == 1 else f"{len(keys)} artefacts"
            hover = (
                f"<b>{kind} {name}</b><br>{shown}<br>{cost['seconds']:,.0f} s, "
                f"{cost['cpu_seconds']:,.0f} CPU-s<br>{cost['bytes'] / 1e6:,.2f} MB"
            )
            size = SMALLEST + GROWTH * max(0, len(str(int(cost["bytes"] / 1e4))) - 1)
            node = Node(kind, name, x, -(row + 0.5) / len(column), size, hover)
            found.append((node, keys))
    return found


def find_edges(study: Study, places: dict[str, Node]) -> list[tuple[Node, Node]]:
    """Pairs of nodes of which the second reads the first, each once."""
    found = {}
    for artefact in study.artefacts.values():
        target = places.get(artefact.manifest.key)
        for key in artefact.manifest.inputs.values():
            source = places.get(key)
            if source is not None and target is not None and source is not target:
                found[id(source), id(target)] = (source, target)
    return list(found.values())


def add_column(figure, nodes: list[Node], colour: str) -> None:
    """Add the nodes of one kind, named where there are few."""
    figure.add_scatter(
        x=[n.x for n in nodes],
        y=[n.y for n in nodes],
        mode="markers+text" if len(nodes) <= MOST_LABELS else "markers",
        text=[n.name for n in nodes],
        textposition="bottom center",
        textfont={"size": 11},
        customdata=[n.hover for n in nodes],
        hovertemplate="%{customdata}<extra></extra>",
        marker={"size": [n.size for n in nodes], "color": colour, "opacity": 0.9},
    )
