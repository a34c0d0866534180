"""What mkdocs calls: it adds pages that are no files under docs/, and mends links to them."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402
from mkdocs.structure.pages import Page  # noqa: E402

from docs.site.reference import write_pages  # noqa: E402

BESIDE = {f"studies/{path.name}": path for path in (ROOT / "benchmarks" / "results").glob("*.md")}
BESIDE["CHANGELOG.md"] = ROOT / "CHANGELOG.md"
# as a repository's reader follows them, and where the site has what they lead to
REPOSITORY_LINKS = {
    re.compile(r"\((?:\.\./)+benchmarks/results/"): "studies/",
    re.compile(r"\((?:\.\./)+docs/"): "",
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference, the studies and the changes."""
    pages = write_pages() | {name: path.read_text() for name, path in BESIDE.items()}
    for name, text in sorted(pages.items()):
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links between docs and benchmarks/results at what the site has in their place."""
    top = "../" * page.file.src_uri.count("/")
    for link, folder in REPOSITORY_LINKS.items():
        markdown = link.sub(f"({top}{folder}", markdown)
    return markdown
