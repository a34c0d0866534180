"""The site is built without a warning, and neither building nor reading it fetches anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.graph import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, built strictly."""
    folder = tmp_path_factory.mktemp("site")
    config = ["--config-file", "docs/site/mkdocs.yml", "--site-dir", str(folder)]
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", *config],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-3000:]
    return folder


def test_every_page_is_built(site):
    for page in ("index", "tutorial/own-images", "reference/commands", "studies/derd-fashion"):
        assert (site / f"{page}.html").exists()
    pages = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")}
    assert [p for p in pages if not (site / p.with_suffix(".html")).exists()] == []


def test_a_page_fetches_nothing(site):
    fetched = re.compile(r'<(?:script|link|img|iframe)\b[^>]*\b(?:src|href)="(https?:[^"]*)"')
    found = {url for path in site.rglob("*.html") for url in fetched.findall(path.read_text())}
    assert not found


def test_every_picture_is_there(site):
    pictures = re.compile(r'<img\b[^>]*\bsrc="(?!data:)([^"]*)"')
    found = [
        (page, name) for page in site.rglob("*.html") for name in pictures.findall(page.read_text())
    ]
    assert len(found) > 5
    assert [(page, name) for page, name in found if not (page.parent / name).exists()] == []


def test_mermaid_is_not_asked_for(site):
    assert not [path.name for path in site.rglob("*.html") if 'class="mermaid"' in path.read_text()]


def test_links_to_studies_work_in_the_repository_too():
    link = re.compile(r"\(((?:\.\./)+benchmarks/results/[^)#]+)")
    pages = [*(ROOT / "docs").rglob("*.md")]
    found = [(page, target) for page in pages for target in link.findall(page.read_text())]
    assert len(found) > 10
    assert [(page, to) for page, to in found if not (page.parent / to).exists()] == []
