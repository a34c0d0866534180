"""The page's text: its template, filled with answers, tables, charts and sections."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from pipeline.report.outcomes import Study
from pipeline.report.page import accuracy_charts, graph_chart, run_charts
from pipeline.report.page.assets import (
    TEMPLATES,
    list_headings,
    make_data_url,
    pack_json,
    pack_libraries,
    read_styles,
    render_markdown,
)
from pipeline.report.page.chart import Chart
from pipeline.report.page.provenance import collect_provenance, link_artefacts
from pipeline.report.page.results_table import make_table
from pipeline.report.results.answer import Answer
from pipeline.report.results.rows import Measurements
from pipeline.report.results.threats import Threat

REVISION = 2

TEMPLATE_FILE = "report.html.j2"


@dataclass(frozen=True)
class Picture:
    """A figure of the page: its PNG file below the report's folder, heading and caption."""

    file: str
    title: str
    caption: str


@dataclass(frozen=True)
class PageText:
    """The words of a page.

    Attributes:
        title: of the report.
        setting: a paragraph on data, models and device, as Markdown.
        answers: which student for which threat.
        columns: the main table's caption, as Markdown.
        tables: sections that come after the main table, as Markdown.
        closing: sections at the end, as Markdown.
    """

    title: str
    setting: str
    answers: Sequence[Answer]
    columns: str
    tables: str
    closing: str


def render_page(
    study: Study,
    text: PageText,
    pictures: Sequence[Picture],
    folder: Path,
    measurements: Measurements,
    threats: Sequence[Threat],
) -> str:
    """A complete HTML page with everything inside: scripts, styles, data, images of ``folder``.

    Raises:
        RetortError: an image is missing or is not a PNG file.
    """
    heads, rows = make_table(study, measurements, threats)
    tables, closing = (
        link_artefacts(render_markdown(part, folder), study, measurements)
        for part in (text.tables, text.closing)
    )
    charts = draw_charts(study, threats)
    return load_template().render(
        text=text,
        setting=render_markdown(text.setting, folder),
        columns=render_markdown(text.columns, folder),
        tables=tables,
        closing=closing,
        table_headings=list_headings(tables),
        closing_headings=list_headings(closing),
        heads=heads,
        rows=rows,
        charts=charts,
        figures=pack_json({chart.name: chart.figure for chart in charts.values()}),
        pictures=[(p, make_data_url(folder, p.file)) for p in pictures],
        provenance=pack_json(collect_provenance(study)),
        styles=read_styles(),
        script=(TEMPLATES / "page.js").read_text(),
        libraries=pack_libraries(),
    )


def load_template() -> Template:
    """The page's template, which escapes text and refuses names that it is not given."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(TEMPLATE_FILE)


def draw_charts(study: Study, threats: Sequence[Threat]) -> dict[str, Chart]:
    """The charts that the study has data for, by name."""
    drawn = (
        accuracy_charts.draw_tradeoff(study, threats),
        accuracy_charts.draw_curves(study),
        run_charts.draw_training(study),
        run_charts.draw_cosine(study),
        run_charts.draw_cost(study),
        run_charts.draw_reuse(study),
        graph_chart.draw_graph(study),
    )
    return {chart.name: chart for chart in drawn if chart is not None}
