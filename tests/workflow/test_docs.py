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


def test_the_picture_of_the_demo_shows_the_readmes_students():
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_demo.py"))
    students = drawing["read_students"]()
    assert list(students) == ["natural", "kd", "dad", "rslad", "adaad", "derd"]
    assert {row[1] for row in students.values()} == {"student"}
    picture = drawing["PICTURE"].read_text()
    assert [name for name in (*students, *drawing["COLUMNS"]) if f">{name}<" not in picture] == []


def test_the_picture_of_the_steps_shows_the_measured_methods():
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_performance.py"))
    steps = drawing["read_steps"]()
    assert list(steps) == ["adaad", "darwin", "derd", "pgd_at", "rslad", "trades"]
    picture = drawing["PICTURE"].read_text()
    shown = (*steps, *drawing["BARS"].values())
    assert [name for name in shown if f">{name}<" not in picture] == []


def test_the_picture_of_banks_shows_radii_and_filters_of_the_page():
    drawing = runpy.run_path(str(ROOT / "docs" / "draw_bank_response.py"))
    banks, students = drawing["read_tables"]()
    assert students.keys() >= banks.keys()  # each bank has students
    drawn = {name for names, *_ in drawing["FILTERS"].values() for name in names.values()}
    for name in drawn:
        assert drawing["DIFFERENCE"].search(students[name][3]), name
    picture = drawing["PICTURE"].read_text()
    assert drawing["describe_numbers"](banks, students) in picture, "run `make docs`"
    radii = [f"{radius:g}" for radius in drawing["RADII"]]
    shown = (*radii, *drawing["RATES"], *drawing["FILTERS"])
    assert [label for label in shown if f">{label}<" not in picture] == []
