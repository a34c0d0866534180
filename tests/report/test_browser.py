"""The page in a real browser: legible, its tables sort, its charts answer, all can read it."""

import os
import shutil
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

from pipeline.stages import report
from pipeline.store.artefact import write_manifest
from tests.report.test_page import full_store

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
WIDTHS = (1280, 390)
SCREENSHOTS = os.environ.get("RETORT_SCREENSHOTS")  # a folder, for those who want to look

pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium"),
    # webdataset leaves the closing of a shard's file to the garbage collector
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.fixture(scope="module")
def page_file(tmp_path_factory) -> Path:
    """The page of a full store."""
    job = full_store(tmp_path_factory.mktemp("store")).job()
    write_manifest(job, report.run(job))
    return job.folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    """Chromium from the system's packages."""
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox"] if os.geteuid() == 0 else []
        )
        yield found
        found.close()


@pytest.fixture(params=[(w, c) for w in WIDTHS for c in ("light", "dark")], ids=str)
def page(request, browser, page_file):
    """The page at a width and colour scheme, drawn; what the console says is an error."""
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    opened, said = context.new_page(), []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda r: said.append(r.url) if r.url.startswith("http") else None)
    opened.goto(page_file.as_uri())
    opened.wait_for_selector("html[data-ready]", state="attached", timeout=60_000)
    if SCREENSHOTS:
        opened.screenshot(path=f"{SCREENSHOTS}/report-{width}-{scheme}.png", full_page=True)
    yield opened
    assert said == []
    context.close()


def read_column(page: Page, place: int) -> list[str]:
    """The texts of one column of the main table."""
    cells = f"#results-table tbody tr > :nth-child({place})"
    return [text.split()[0] for text in page.locator(cells).all_inner_texts()]


def test_page_is_complete_and_fits(page):
    width, window = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
    assert width <= window
    broken = "[...document.images].filter(i => !i.complete || !i.naturalWidth).length"
    assert page.evaluate(broken) == 0 and page.locator("img").count() == 2
    drawn = page.locator(".chart").evaluate_all(
        "all => all.map(e => e.querySelectorAll('svg').length)"
    )
    assert len(drawn) >= 5 and min(drawn) > 0


def test_no_barrier_that_axe_finds(page):
    found = Axe().run(page).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:200]) for v in found] == []


def test_a_table_sorts_and_filters(page):
    heading = page.locator("#results-table thead th").nth(2)
    for order in ("ascending", "descending"):
        heading.click()
        page.locator(f'#results-table th[aria-sort="{order}"]').wait_for(timeout=10_000)
        found = [float(text) for text in read_column(page, 3)]
        assert found == sorted(found, reverse=order == "descending")
    page.get_by_placeholder("rows of Reproduce").fill("generator")
    rows = page.get_by_role("region", name="Reproduce").locator("tbody tr")
    rows.nth(1).wait_for(state="detached", timeout=10_000)
    assert "generator" in rows.first.inner_text()


def test_a_chart_says_its_numbers_on_hover(page):
    chart = page.locator("#tradeoff")
    chart.scroll_into_view_if_needed()
    chart.locator(".points path").first.hover(force=True)
    hover = chart.locator(".hoverlayer .hovertext")
    hover.first.wait_for(state="attached", timeout=10_000)
    said = hover.first.text_content()
    assert "n = 16" in said and "CPU-seconds" in said and "seed" in said


def test_no_legend_lies_on_a_panels_title(page):
    boxes = page.locator(".chart").evaluate_all(
        """all => all.map(e => ['.legend', '.annotation'].map(name =>
            [...e.querySelectorAll(`.infolayer ${name}`)].map(found => {
                const box = found.getBoundingClientRect();
                return [box.left, box.top, box.right, box.bottom];
            })))"""
    )
    pairs = [(a, b) for legends, titles in boxes for a in legends for b in titles]
    assert pairs
    for legend, title in pairs:
        beside = legend[2] <= title[0] or title[2] <= legend[0]
        assert beside or legend[3] <= title[1] or title[3] <= legend[1]


def test_a_number_leads_to_its_artefact(page):
    cell = page.locator("#results-table tbody td a").first
    assert "16 images" in cell.get_attribute("title")
    cell.click()
    dialog = page.locator("dialog[open]")
    dialog.wait_for(timeout=10_000)
    said = dialog.inner_text()
    for words in ("make it again", "retort evaluate ", "code revisions", "environment"):
        assert words in said, words
    dialog.locator("a").first.click()
    page.wait_for_function("document.querySelector('#provenance-title').textContent.length > 0")
    dialog.get_by_role("button", name="Close").click()
    assert page.locator("dialog[open]").count() == 0
