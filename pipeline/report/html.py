"""A Markdown report as one HTML file with its images inside."""

import base64
import html
import re
from pathlib import Path

import markdown

from pipeline.errors import RetortError

REVISION = 1

PAGE_STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --paper: #ffffff; --rule: #d5dae0;
  --band: #f4f6f8; --faint: #59636e; --link: #0b5cad; }
@media (prefers-color-scheme: dark) { :root { --ink: #e3e7ec; --paper: #14171b; --rule: #363d46;
  --band: #1d2228; --faint: #9aa5b1; --link: #7ab7ff; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 1rem; }
h2 { font-size: 1.3rem; margin: 2.8rem 0 .6rem; padding-top: 1rem;
  border-top: 1px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.8rem 0 .4rem; }
p, ul { max-width: 46rem; }
p:has(> img) { max-width: none; }
a { color: var(--link); }
.wide { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; text-align: left; vertical-align: baseline; white-space: nowrap; }
th { border-bottom: 2px solid var(--rule); vertical-align: bottom; white-space: normal; }
td { border-bottom: 1px solid var(--rule); }
tbody tr:nth-child(even) { background: var(--band); }
img { display: block; max-width: 100%; height: auto; margin: 1rem 0 .4rem; background: #ffffff;
  border: 1px solid var(--rule); border-radius: 6px; }
img[alt^="samples"] { width: 40rem; }
img[alt^="generator"] { width: 40rem; image-rendering: pixelated; }
img[alt="curves"], img[alt="cost"] { width: 46rem; }
em { color: var(--faint); font-size: .92rem; }
code { font-size: .88em; background: var(--band); padding: .05em .3em; border-radius: 3px; }
@media print { main { max-width: none; padding: 0; } img { break-inside: avoid; } }
"""

PAGE_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""

IMAGE_SOURCE_PATTERN = re.compile(r'src="([^"]+)"')


def render_page(text: str, title: str, folder: Path) -> str:
    """A complete HTML page of Markdown text, with the images of ``folder`` as data URLs.

    Raises:
        RetortError: an image is missing or is not a PNG file.
    """
    body = markdown.markdown(text, extensions=["tables"], output_format="html")
    body = body.replace("<table>", '<div class="wide"><table>')
    body = body.replace("</table>", "</table></div>")
    body = IMAGE_SOURCE_PATTERN.sub(lambda match: f'src="{make_data_url(folder, match[1])}"', body)
    return PAGE_TEMPLATE.format(title=html.escape(title), style=PAGE_STYLE, body=body)


def make_data_url(folder: Path, name: str) -> str:
    """An image file as a data URL.

    Raises:
        RetortError: the file is missing or is not a PNG file.
    """
    path = folder / name
    if path.suffix != ".png" or not path.is_file():
        raise RetortError(f"{path}: the report shows it, but it is no PNG file; make it again")
    return f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
