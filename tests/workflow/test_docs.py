"""What is drawn into the documentation is what the code would draw today."""

import runpy

from tests.helpers.graph import ROOT


def test_the_floors_are_drawn_from_todays_imports():
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_floors.py"))
    page = drawing["PAGE"].read_text()
    assert page == drawing["renew"](page), "run `make docs`"
    assert "core" in page
    for picture, draw in (("FLOORS", "draw_floors"), ("GRAPH", "draw_graph")):
        assert drawing[picture].read_text() == drawing[draw](), "run `make docs`"
