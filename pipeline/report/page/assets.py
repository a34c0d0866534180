"""What travels in the page: scripts and data packed, pictures as data URLs, Markdown as HTML."""

import base64
import gzip
import json
import re
from functools import cache
from pathlib import Path

import markdown

from pipeline.errors import RetortError

REVISION = 1

TEMPLATES = Path(__file__).parent / "templates"
IMAGE_SOURCE_PATTERN = re.compile(r'src="([^"]+)"')
HEADING_PATTERN = re.compile(r"<h2>(.*?)</h2>")
ANCHORED_HEADING_PATTERN = re.compile(r'<h2 id="(.*?)">(.*?)</h2>')


def pack(text: str) -> str:
    """Text compressed by gzip, in base64; equal texts give equal packs. A browser unpacks it."""
    return base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode()


def pack_json(value: object) -> str:
    """A value as packed JSON."""
    return pack(json.dumps(value, ensure_ascii=False, separators=(",", ":")))


@cache
def pack_libraries() -> dict[str, str]:
    """Plotly.js and DataTables, packed, by the name of their element in the page."""
    from itables.utils import read_package_file
    from plotly.offline import get_plotlyjs

    return {
        "plotly-code": pack(get_plotlyjs()),
        "datatables-code": pack(read_package_file("html/dt_bundle.js")),
    }


@cache
def read_styles() -> str:
    """DataTables' style and then the page's own."""
    from itables.utils import read_package_file

    return f"{read_package_file('html/dt_bundle.css')}\n{(TEMPLATES / 'page.css').read_text()}"


def render_markdown(text: str, folder: Path) -> str:
    """Markdown as HTML: images of ``folder`` as data URLs, tables for DataTables, heads with ids.

    Raises:
        RetortError: an image is missing or is not a PNG file.
    """
    body = markdown.markdown(text, extensions=["tables"], output_format="html")
    body = body.replace("<table>", '<table class="sortable display compact">')
    body = HEADING_PATTERN.sub(lambda m: f'<h2 id="{make_anchor(m[1])}">{m[1]}</h2>', body)
    return IMAGE_SOURCE_PATTERN.sub(lambda m: f'src="{make_data_url(folder, m[1])}"', body)


def list_headings(body: str) -> list[tuple[str, str]]:
    """The ids and texts of the second-level headings of rendered Markdown."""
    return ANCHORED_HEADING_PATTERN.findall(body)


def make_anchor(text: str) -> str:
    """A heading as an element's id: ``with-and-without-a-bank``."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def make_data_url(folder: Path, name: str) -> str:
    """An image file as a data URL.

    Raises:
        RetortError: the file is missing or is not a PNG file.
    """
    path = folder / name
    if path.suffix != ".png" or not path.is_file():
        raise RetortError(f"{path}: the report shows it, but it is no PNG file; make it again")
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
