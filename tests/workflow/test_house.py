"""The rules of the house, read from the syntax trees: rooms, sizes, and what is not written."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "pipeline"

ROOM_FILES, TOP_FILES = 16, 8
PLUGINS = {"architectures", "attacks", "datasets", "objectives", "generator_losses"}
BASES = {
    "nn.Module",
    "BaseModel",
    "Section",
    "Trained",
    "Protocol",
    "Exception",
}
BASES |= {"pickle.Unpickler"}
# Where torch asks for a class
BASES |= {"torch.autograd.Function", "TorchFunctionMode", "TorchDispatchMode"}
FUNCTION_LINES, FILE_LINES = 40, 300

FILES = sorted(PACKAGE.rglob("*.py"))
SETTINGS = {
    node.name
    for path in FILES
    if "config" in path.parts
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.ClassDef)
}
TESTS = sorted((ROOT / "tests").rglob("*.py"))


def label(path: Path) -> str:
    """A file's path below the root, as the tests' name."""
    return str(path.relative_to(ROOT))


every_file = pytest.mark.parametrize("path", FILES, ids=label)


def module_of(path: Path) -> str:
    """Dotted name below the package: `loop`, `objectives.kd`, `attacks`, `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1]) if len(parts) > 1 and parts[-1] == "__init__" else ".".join(parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{label(path)}:{node.lineno}: write the import in full"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    names = {name.removeprefix("pipeline.") for name in found if name.startswith("pipeline.")}
    return (names & MODULES.keys()) - {module_of(path)}


def package_of(module: str) -> str:
    """The room of a module: `models.pretrained` of `models.pretrained.safe_unpickle`."""
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def test_imports_go_down_the_floors():
    """The layers contract of pyproject.toml, as `make lint` checks it."""
    lint = Path(sys.executable).with_name("lint-imports")
    found = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert found.returncode == 0, found.stdout


def test_rooms_import_each_other_in_no_circle():
    """A room within another belongs to it: those two may import each other."""
    rooms: dict[str, set[str]] = {}
    for name, path in MODULES.items():
        if room := package_of(name):
            found = {package_of(other) for other in imports(path)} - {room, ""}
            own = {other for other in found if f"{other}.".startswith(f"{room}.")}
            own |= {other for other in found if f"{room}.".startswith(f"{other}.")}
            rooms.setdefault(room, set()).update(found - own)
    for graph in ({name: imports(path) for name, path in MODULES.items()}, rooms):
        try:
            graphlib.TopologicalSorter(graph).prepare()
        except graphlib.CycleError as error:
            pytest.fail("circle: " + " -> ".join(error.args[1]))


def test_rooms_are_small_and_say_what_they_are_for():
    assert len(list(PACKAGE.glob("*.py"))) <= TOP_FILES
    for room in {path.parent for path in FILES} - {PACKAGE}:
        files = list(room.glob("*.py"))
        assert room.name in PLUGINS or len(files) <= ROOM_FILES + 1, f"{label(room)}: split it"
        docstring = ast.get_docstring(ast.parse((room / "__init__.py").read_text()))
        assert docstring, f"{label(room)}: its __init__.py says what enters and what leaves"


@every_file
def test_functions_are_short(path):
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = {f.name: n for f in functions if (n := f.end_lineno - f.lineno + 1) > FUNCTION_LINES}
    assert not long, f"{label(path)}: more than {FUNCTION_LINES} lines: {long}"
    loose = [f.name for f in functions if f.args.kwarg]
    assert not loose, f"{label(path)}: **kwargs in {loose}; name the arguments"


@pytest.mark.parametrize("path", FILES + TESTS, ids=label)
def test_files_are_short(path):
    lines = len(path.read_text().splitlines())
    assert lines <= FILE_LINES, f"{label(path)}: {lines} lines, at most {FILE_LINES}; split it"


@every_file
def test_classes_inherit_from_nothing_of_ours(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef):
            bases = {ast.unparse(base) for base in node.bases}
            if "config" in path.parts:  # a section and its spec share classes of fields
                bases -= SETTINGS
            assert bases <= BASES, f"{label(path)}: class {node.name} inherits {bases - BASES}"


@every_file
def test_nothing_is_left_to_do(path):
    left = re.findall(r"\b(?:TODO|FIXME|XXX|HACK)\b.*", path.read_text())
    assert not left, f"{label(path)}: {left}"


@every_file
def test_public_names_are_documented(path):
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or path.name == "__init__.py", f"{label(path)}: no docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{label(path)}: {node.name} has no docstring"
