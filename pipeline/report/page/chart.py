"""What all charts share: their form, colours and labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.report.outcomes import ModelGroup

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

REVISION = 2

# Okabe and Ito's, darkened or lightened until they show on white and on black.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#B8860B", "#4A9CD4", "#A04070")
DASHES = ("solid", "dot", "dash", "dashdot")
TITLE_HEIGHT = 30  # pixels between a panel and the legend, for the panel's title
MARGIN = {"l": 56, "r": 16, "t": 24, "b": 48}


@dataclass(frozen=True)
class Chart:
    """A chart of the page.

    Attributes:
        name: the id of its element.
        title: heading above it.
        caption: what it shows and how to read it; also its text for those who do not see it.
        figure: Plotly's JSON.
        height: pixels.
    """

    name: str
    title: str
    caption: str
    figure: str
    height: int


def finish_chart(name: str, title: str, caption: str, figure: "Figure", height: int) -> Chart:
    """A chart of a figure, with the layout that all have."""
    has_titles = bool(figure.layout.annotations)
    panels = height - MARGIN["t"] - MARGIN["b"]
    gap = TITLE_HEIGHT / panels if has_titles else 0.02
    figure.update_layout(
        template="none",
        height=height,
        margin=MARGIN,
        hovermode="closest",
        font={"size": 13},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1 + gap, "x": 0},
    )
    figure.update_xaxes(zeroline=False, automargin=True)
    figure.update_yaxes(zeroline=False, automargin=True)
    return Chart(name, title, caption, figure.to_json(), height)


def name_group(group: ModelGroup) -> str:
    """A model's name in a legend."""
    return group.name if group.kind == "student" else f"{group.name} ({group.kind})"


def assign_styles(groups: Sequence[ModelGroup]) -> dict[tuple[str, str], dict]:
    """The line of each model by kind and name; teachers are dashed."""
    styles = {}
    for place, group in enumerate(groups):
        round_number, colour = divmod(place, len(COLOURS))
        dash = DASHES[round_number % 2] if group.kind == "student" else DASHES[2 + round_number % 2]
        styles[group.kind, group.name] = {"color": COLOURS[colour], "dash": dash, "width": 2}
    return styles


def describe_members(group: ModelGroup) -> str:
    """Seeds and keys of a model's members, for a chart's hover."""
    seeds = [f"seed {m.manifest.spec.get('seed', '–')}: {m.manifest.key}" for m in group.members]
    shown = seeds[:4] + ([f"and {len(seeds) - 4} more"] if len(seeds) > 4 else [])
    return "<br>".join(shown)
