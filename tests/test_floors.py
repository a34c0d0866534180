"""The rules of the house, read from the syntax trees: floors, sizes, and what is not written."""

import ast
import graphlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "pipeline"

FLOORS = {  # a folder of plug-ins stands for all its files
    0: "progress ranks sync_bn"
    " errors rng batch threat ascent inner losses augment mixing signals plugins pairing dual_bn"
    " counter topk hardened",
    1: "passes flops wasserstein lpips shift"
    " made synthesis attention"
    " models clip discretizer generator architectures attacks objectives clip_tuned vq_losses",
    2: "names"
    " grids"
    " provenance holdings needs gpu logs summary"
    " fitted towers vq_config vq_measure inert"
    " strict grid recipe plugged suites sections config plan resolve code artifact checkpoint"
    " lease timing data bank source datasets foreign fits collection folders mixture students"
    " resolver entries banks bank_reader bank_source pictures viewed rejected imagenet"
    " unfilled lazy indexed warm_start generators data_free pool generator_source round_source",
    3: "optim validation state loop parallel training",
    4: "shipping"
    " cost priced distances standing soundness pruning"
    " vq_training"
    " open_clip_teacher foreign_discretizer import_checkpoint prepare_indexed"
    " prepare_data train_teacher train_discretizer build_bank warm_generator distill evaluate"
    " bank_maker bank_tools report clip_teacher foreign_teacher inspect_plan cli arguments"
    " launch __init__ __main__ shifts by_epoch boundaries"
    " outcomes intervals suspicion inventory specimens tables figures page",  # the report's parts
}
FLOOR_OF = {name: floor for floor, names in FLOORS.items() for name in names.split()}
BASES = {"nn.Module", "BaseModel", "Section", "Trained", "Protocol", "Exception"}
BASES |= {"pickle.Unpickler"}
BASES |= {"torch.autograd.Function", "TorchFunctionMode"}  # where torch asks for a class
FUNCTION_LINES, FILE_LINES = 40, 300

FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = sorted(Path(__file__).parent.glob("*.py"))


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


def floor(module: str) -> int:
    """The floor of a module, or of its folder."""
    return FLOOR_OF[module.partition(".")[0]]


@every_file
def test_every_module_has_a_floor(path):
    name = module_of(path).partition(".")[0]
    assert name in FLOOR_OF, (
        f"{label(path)} stands on no floor: add '{name}' to FLOORS in tests/test_floors.py: "
        "0 maths, 1 networks and plug-ins, 2 files and plans, 3 training, 4 stages"
    )


@every_file
def test_imports_go_down_or_along_a_floor(path):
    own = floor(module_of(path))
    up = {name: floor(name) for name in imports(path) if floor(name) > own}
    assert not up, f"{label(path)} is on floor {own} and imports upwards: {up}"


def test_every_module_is_on_the_map_once():
    listed = re.findall(r"`(\w+)`", (ROOT / "docs" / "MAP.md").read_text().partition("\n## ")[2])
    listed.remove("pipeline")
    tops = {name.partition(".")[0] for name in MODULES}
    assert sorted(listed) == sorted(tops), "docs/MAP.md: each module and folder in its room, once"


def test_no_circle_of_imports():
    graph = graphlib.TopologicalSorter({name: imports(path) for name, path in MODULES.items()})
    try:
        graph.prepare()
    except graphlib.CycleError as error:
        pytest.fail("circle: " + " -> ".join(error.args[1]))


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
