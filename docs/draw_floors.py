"""Draw the floors of ``pipeline/`` into docs/architecture.md, from the imports as they are.

`make docs` runs it; a test fails where the page is not what it would write.
"""

import ast
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- drawn by docs/draw_floors.py -->", "<!-- end of what is drawn -->"
PLUGINS = "pipeline.data_free.generator_losses"


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


def draw() -> str:
    """The picture as Mermaid and the table of rooms, as Markdown."""
    floors = read_floors()
    rooms = [room for floor in floors for room in floor]
    lines = ["```mermaid", "flowchart TD"]
    for number, floor in enumerate(floors):
        lines.append(f'  subgraph floor{len(floors) - number} [" "]')
        lines += [f"    {short_name(room)}" for room in floor]
        lines.append("  end")
    for room, others in reduce_imports(find_imports(rooms)).items():
        lines += [f"  {short_name(room)} --> {short_name(other)}" for other in sorted(others)]
    lines += ["```", "", "| room | what it is for |", "|---|---|"]
    lines += [f"| `{short_name(room)}` | {describe_room(room)} |" for room in rooms]
    return "\n".join(lines)


def renew(page: str) -> str:
    """The page with the drawn part made anew."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{draw()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    PAGE.write_text(renew(PAGE.read_text()))
