"""The code that makes an artefact: revisions and fingerprints of the listed components.

Modules are parsed, never imported. The import graph serves only to check the lists: see
`planning.components`.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE_ROOT = Path(__file__).parents[1]


def find_module_file(module: str) -> Path | None:
    """The file of a module or subpackage of this package by dotted name; None for anything else."""
    parts = module.split(".")
    if parts[0] != "pipeline" or len(parts) == 1:
        return None
    place = PACKAGE_ROOT.joinpath(*parts[1:])
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.exists()), None)


@cache
def parse_module(module: str) -> ast.Module:
    """The parsed file of a module of this package.

    Raises:
        ValueError: the package has no such module.
    """
    if (path := find_module_file(module)) is None:
        raise ValueError(f"{module}: is no module of this package")
    return ast.parse(path.read_text())


@cache
def list_imports(module: str) -> frozenset[str]:
    """The modules of this package that a module imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(parse_module(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(m for m in found if find_module_file(m))


@cache
def compute_import_closure(*modules: str) -> tuple[str, ...]:
    """The modules and everything that they import, directly or not, sorted."""
    seen: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(list_imports(module))
    return tuple(sorted(seen))


@cache
def literal_of(module: str, name: str) -> Any:
    """The literal that a module assigns to a name at its top level; None without an assignment."""
    for node in parse_module(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    return None


def read_revision(module: str) -> int | None:
    """The module's REVISION; None for a module without one, which changes no number."""
    return literal_of(module, "REVISION")


def with_declared(modules: Iterable[str]) -> tuple[str, ...]:
    """The modules and those that they declare as their ``COMPONENTS``; sorted, without repeats."""
    modules = set(modules)
    return tuple(sorted(modules.union(*(literal_of(m, "COMPONENTS") or () for m in modules))))


def collect_revisions(*components: str) -> dict[str, int]:
    """The REVISION of each component and of those that it declares.

    Raises:
        ValueError: one of them has no REVISION.
    """
    found = {}
    for module in with_declared(components):
        if (number := read_revision(module)) is None:
            raise ValueError(f"{module}: is listed as a component, but has no REVISION")
        found[module] = number
    return found


def compute_fingerprint(*modules: str) -> str:
    """A digest of the modules' syntax trees, without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for module in sorted(modules):
        digest.update(f"{module} {compute_module_digest(module)}\n".encode())
    return digest.hexdigest()[:16]


@cache
def compute_module_digest(module: str) -> str:
    """A digest of one module's syntax tree."""
    return hashlib.sha256(serialise_syntax_tree(parse_module(module)).encode()).hexdigest()


def serialise_syntax_tree(node: object) -> str:
    """A syntax tree as the same text in every Python: without empty fields and docstrings."""
    if isinstance(node, list):
        parts = (serialise_syntax_tree(each) for each in node if not is_bare_string(each))
        return f"[{','.join(parts)}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    inside = ",".join(f"{name}={serialise_syntax_tree(value)}" for name, value in fields)
    return f"{type(node).__name__}({inside})"


def is_bare_string(node: object) -> bool:
    """Whether a statement is a bare string."""
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)
