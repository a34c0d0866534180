"""What mkdocs calls: it adds the pages that do not lie under docs/ as files."""

import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from mkdocs.config.defaults import MkDocsConfig  # noqa: E402
from mkdocs.structure.files import File, Files  # noqa: E402

from docs.site.reference import write_pages  # noqa: E402

BESIDE = {f"studies/{path.name}": path for path in (ROOT / "benchmarks" / "results").glob("*.md")}
BESIDE["CHANGELOG.md"] = ROOT / "CHANGELOG.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the reference, the studies and the changes."""
    pages = write_pages() | {name: path.read_text() for name, path in BESIDE.items()}
    for name, text in sorted(pages.items()):
        files.append(File.generated(config, name, content=text))
    return files
