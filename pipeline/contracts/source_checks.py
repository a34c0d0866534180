"""What is seen in a plug-in's text, before it is imported: syntax, imports, yield and return."""

import ast
import re

from pipeline.contracts.own_files import OWN_PACKAGE, OwnFile, OwnFiles, show_path
from pipeline.errors import RetortError

SINGULAR = {
    "architectures": "architecture",
    "attacks": "attack",
    "datasets": "dataset",
    "generator_losses": "generator_loss",
    "objectives": "objective",
}
CLASS_NAMES = {"attacks": "Attack", "generator_losses": "Loss", "objectives": "Objective"}
SAFE_RETURNS = (ast.Call, ast.List, ast.Tuple, ast.GeneratorExp)  # may well be several dicts


def make_form_error(folder: str, path: str, what: str, line: int = 1) -> RetortError:
    """The error of a file that lacks something, with the way to a file that does not."""
    example = f"retort check --example {SINGULAR[folder]}"
    return RetortError(f"{path}:{line}: {what}; '{example}' prints the smallest valid file")


def parse_source(file: OwnFile) -> ast.Module:
    """The parsed file.

    Raises:
        RetortError: it is no Python; the message names the line.
    """
    try:
        return ast.parse(file.text)
    except (SyntaxError, ValueError) as error:
        line, what = getattr(error, "lineno", None) or 1, getattr(error, "msg", error)
        raise RetortError(f"{show_path(file.path)}:{line}: SyntaxError: {what}") from error


def check_source(folder: str, own: OwnFiles, module: str) -> None:
    """Checks a plug-in's text.

    Raises:
        RetortError: a syntax error, an import that keys do not see, or return for yield.
    """
    file = own.files[module]
    tree = parse_source(file)
    check_imports(own, file, tree)
    call = find_method(find_class(tree, CLASS_NAMES.get(folder, "")), "__call__")
    if call is not None and folder == "objectives":
        check_yields(folder, file, call)
    if call is not None and folder == "attacks":
        check_judge(folder, file, call)


def check_imports(own: OwnFiles, file: OwnFile, tree: ast.Module) -> None:
    """Raises RetortError if a file of the folders is imported by the folder's own name."""
    tops = {folder.name for folder in own.folders}
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for name in names:
            top, _, rest = name.partition(".")
            if top in tops and own.has_module(f"{OWN_PACKAGE}.{rest}"):
                raise RetortError(
                    f"{show_path(file.path)}:{node.lineno}: imports '{name}' by a name that keys "
                    "do not see; import it relatively: 'from . import name' beside it, 'from .. "
                    "import name' above"
                )


def check_yields(folder: str, file: OwnFile, call: ast.FunctionDef) -> None:
    """Raises RetortError if an objective gives back a dict in place of yielding it."""
    inside = list(ast.walk(call))
    if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in inside):
        return
    returned = [n for n in inside if isinstance(n, ast.Return) and n.value is not None]
    if any(isinstance(node.value, SAFE_RETURNS) for node in returned):
        return
    what = "Objective.__call__ returns its terms" if returned else "Objective.__call__ has no yield"
    line = returned[0].lineno if returned else call.lineno
    raise make_form_error(
        folder, show_path(file.path), f"{what}; write 'yield' before the dict of terms", line
    )


def check_judge(folder: str, file: OwnFile, call: ast.FunctionDef) -> None:
    """Raises RetortError if an attack predicts, but takes no judge that predicts."""
    arguments = {argument.arg for argument in (*call.args.args, *call.args.kwonlyargs)}
    if "judge" in arguments:
        return
    named = {n.id for n in ast.walk(call) if isinstance(n, ast.Name)}
    if "AttackPoint" in named or any(isinstance(n, ast.Dict | ast.DictComp) for n in call.body):
        raise make_form_error(
            folder,
            show_path(file.path),
            "Attack.__call__ gives back predictions, but has no argument 'judge', the model that "
            "predicts; add it, or return the attacked images alone",
            call.lineno,
        )


def find_class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    """The class of a name at a file's top level."""
    found = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    return found[-1] if found else None


def find_method(owner: ast.ClassDef | None, name: str) -> ast.FunctionDef | None:
    """The method of a name in a class."""
    inside = owner.body if owner is not None else []
    found = [n for n in inside if isinstance(n, ast.FunctionDef) and n.name == name]
    return found[-1] if found else None


def find_line(tree: ast.Module, owner: str, method: str = "") -> int:
    """The line of a class, or of its method; 1 where it is in no class of the file."""
    place = find_class(tree, owner)
    inside = find_method(place, method)
    return (inside or place).lineno if place is not None else 1


def list_numbers_without_type(tree: ast.Module, owner: str) -> list[tuple[str, int]]:
    """Names and lines of a class's numbers that no annotation makes a field."""
    place = find_class(tree, owner)
    found = []
    for node in place.body if place is not None else ():
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            value, target = node.value.value, node.targets[0]
            if type(value) in (int, float) and isinstance(target, ast.Name):
                found.append((target.id, node.lineno))
    return found


def read_name_pattern(name: str, text: bytes) -> str:
    """The pattern of an architecture's names: its file's name, or what NAME_PATTERN says.

    What is no pattern counts as none: whoever loads the file is told what is wrong.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return name
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "NAME_PATTERN":
            value = node.value
            if isinstance(value, ast.Call) and value.args:
                value = value.args[0]
            if isinstance(value, ast.Constant) and is_pattern(value.value):
                return value.value
    return name


def is_pattern(value: object) -> bool:
    """Whether a value is the text of a regular expression."""
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False
