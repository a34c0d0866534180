"""Draw the floors of ``pipeline/`` from the imports as they are, and the graph of the artefacts.

`make docs` runs it: it writes two pictures and the table of rooms in docs/architecture.md. A test
fails where they are not what it would write.
"""

import ast
import sys
import tomllib
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/draw_floors.py -->", "<!-- end of what is drawn -->"
FLOORS, GRAPH = ROOT / "docs" / "floors.svg", ROOT / "docs" / "graph.svg"

LAYERS = [  # the kinds of artefacts: what is made from what
    ["dataset"],
    ["teacher", "discretizer"],
    ["bank", "generator"],
    ["student"],
    ["evaluation"],
    ["report"],
]
MADE_FROM = {
    "dataset": {"teacher", "discretizer", "bank", "student"},
    "teacher": {"bank", "generator", "student", "evaluation"},
    "discretizer": {"bank"},
    "bank": {"student"},
    "generator": {"student"},
    "student": {"evaluation"},
    "evaluation": {"report"},
}
BOX, GAP, ROW, LETTER, MARGIN = 34, 28, 84, 8, 20  # pixels: heights, distances, width of a letter


def read_floors() -> list[list[str]]:
    """The floors of the layers contract, top first, each a list of rooms; leaves are one room."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (layers,) = (c["layers"] for c in contracts["contracts"] if c["type"] == "layers")
    floors = [[room.strip() for room in layer.split(":")] for layer in layers]
    return [floor for floor in floors if floor != ["pipeline.__main__"]][:-1]


def find_room(module: str, rooms: list[str]) -> str | None:
    """The room that a module stands in, None for the leaves beside the rooms."""
    return next((room for room in rooms if f"{module}.".startswith(f"{room}.")), None)


def find_imports(rooms: list[str]) -> dict[str, set[str]]:
    """For each room the rooms that its modules import."""
    graph = grimp.build_graph("pipeline", cache_dir=None)
    found: dict[str, set[str]] = {room: set() for room in rooms}
    for module in graph.modules:
        room = find_room(module, rooms)
        for imported in graph.find_modules_directly_imported_by(module) if room else ():
            other = find_room(imported, rooms)
            if other not in (None, room):
                found[room].add(other)
    return found


def reduce_imports(imports: dict[str, set[str]]) -> dict[str, set[str]]:
    """The imports without those that a longer path of imports implies."""

    def reach(room: str) -> set[str]:
        return imports[room].union(*(reach(other) for other in imports[room]))

    return {
        room: {o for o in others if not any(o in reach(p) for p in others - {o})}
        for room, others in imports.items()
    }


def short_name(room: str) -> str:
    """A room's name below the package."""
    return room.removeprefix("pipeline.")


def describe_room(room: str) -> str:
    """The first paragraph of a room's docstring, on one line."""
    path = ROOT.joinpath(*room.split("."), "__init__.py")
    return " ".join(ast.get_docstring(ast.parse(path.read_text())).split("\n\n")[0].split())


def draw_picture(layers: list[list[str]], arrows: dict[str, set[str]]) -> str:
    """Boxes in rows, the first row on top, with arrows between them, as SVG."""
    widths = {box: LETTER * len(box) + GAP for row in layers for box in row}
    spans = [sum(widths[box] for box in row) + GAP * (len(row) - 1) for row in layers]
    width, height = max(spans) + 2 * MARGIN, ROW * (len(layers) - 1) + BOX + 2 * MARGIN
    places, boxes = {}, []
    for number, (row, span) in enumerate(zip(layers, spans, strict=True)):
        left, top = (width - span) / 2, MARGIN + ROW * number
        for box in row:
            places[box] = (left + widths[box] / 2, top)
            boxes.append(
                f'<rect x="{left:g}" y="{top}" width="{widths[box]}" height="{BOX}" rx="6"/>'
                f'<text x="{places[box][0]:g}" y="{top + 22}">{escape(box)}</text>'
            )
            left += widths[box] + GAP
    lines = [
        draw_arrow(places[one], places[two])
        for one, others in arrows.items()
        for two in sorted(others)
    ]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}">',
            "<style>rect{fill:#eef2f7;stroke:#4a6080}path{fill:none;stroke:#8a9bb0;stroke-width:1.4}"
            "text{font:14px monospace;text-anchor:middle;fill:#1c2733}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><polygon points="0,0 8,4 0,8" fill="#8a9bb0"/>'
            "</marker></defs>",
            f'<rect width="{width:g}" height="{height:g}" style="fill:#fff;stroke:none"/>',
            *lines,
            *boxes,
            "</svg>\n",
        ]
    )


def draw_arrow(one: tuple[float, float], two: tuple[float, float]) -> str:
    """A curve from the lower edge of a box to the upper edge of another, or sideways in a row."""
    (x, top), (to_x, to_top) = one, two
    if top == to_top:
        return f'<path d="M{x:g},{top + BOX} q{(to_x - x) / 2:g},30 {to_x - x:g},0"/>'
    y, bend = top + BOX, (to_top - top - BOX) / 2
    return (
        f'<path d="M{x:g},{y:g} C{x:g},{y + bend:g} {to_x:g},{to_top - bend:g} '
        f'{to_x:g},{to_top:g}" marker-end="url(#tip)"/>'
    )


def draw_floors() -> str:
    """The picture of the rooms."""
    floors = read_floors()
    rooms = [room for floor in floors for room in floor]
    reduced = reduce_imports(find_imports(rooms))
    arrows = {short_name(room): set(map(short_name, others)) for room, others in reduced.items()}
    return draw_picture([[short_name(room) for room in floor] for floor in floors], arrows)


def draw_graph() -> str:
    """The picture of the artefacts."""
    return draw_picture(LAYERS, MADE_FROM)


def list_rooms() -> str:
    """The table of rooms, as Markdown."""
    rooms = [room for floor in read_floors() for room in floor]
    lines = ["| package | what it is for |", "|---|---|"]
    return "\n".join([*lines, *(f"| `{short_name(r)}` | {describe_room(r)} |" for r in rooms)])


def renew(page: str) -> str:
    """The page with the drawn part made anew."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n\n{list_rooms()}\n\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))  # this checkout is drawn, wherever the package is installed
    PAGE.write_text(renew(PAGE.read_text()))
    FLOORS.write_text(draw_floors())
    GRAPH.write_text(draw_graph())
