"""The code that makes an artefact: revisions and fingerprints of the listed components.

Modules are parsed, never imported. The import graph serves only to check the lists: see
`planning.components`. The user's own plug-ins count by content in place of a REVISION: what they
import decides what makes an artefact.
"""

import ast
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pipeline.contracts.own_files import is_own
from pipeline.contracts.source_checks import parse_source
from pipeline.discovery import cache_by_plugins, find_own_file

PACKAGE_ROOT = Path(__file__).parents[1]


def find_module_file(module: str) -> Path | None:
    """The file of a module of this package or the user's plug-ins; None for anything else."""
    if is_own(module):
        own = find_own_file(module)
        return own.path if own is not None else None
    parts = module.split(".")
    if parts[0] != "pipeline" or len(parts) == 1:
        return None
    place = PACKAGE_ROOT.joinpath(*parts[1:])
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.exists()), None)


@cache_by_plugins
def parse_module(module: str) -> ast.Module:
    """The parsed file of a module of this package or of the user's plug-ins.

    Raises:
        ValueError: there is no such module.
        RetortError: a plug-in of the user's own is no Python; it may be imported only when it runs.
    """
    if (own := find_own_file(module)) is not None:
        return parse_source(own)
    if (path := find_module_file(module)) is None:
        raise ValueError(f"{module}: is no module of this package")
    return ast.parse(path.read_text())


@cache_by_plugins
def list_imports(module: str) -> frozenset[str]:
    """The modules of this package that a module imports, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(parse_module(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = resolve_import(module, node)
            found.add(source)
            found.update(f"{source}.{alias.name}" for alias in node.names)
    parents = {above for m in found if is_own(m) for above in list_packages(m)}
    return frozenset(m for m in found | parents if find_module_file(m))


def resolve_import(module: str, node: ast.ImportFrom) -> str:
    """The dotted name that a module's ``from … import`` names, relative ones resolved."""
    if not node.level:
        return node.module or ""
    path = find_module_file(module)
    parts = module.split(".")
    above = node.level - (path is not None and path.name == "__init__.py")
    package = parts[: len(parts) - above]
    return ".".join([*package, *([node.module] if node.module else [])])


def list_packages(module: str) -> list[str]:
    """The packages that a module lies in; their ``__init__.py`` run before it."""
    parts = module.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


@cache_by_plugins
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


@cache_by_plugins
def literal_of(module: str, name: str) -> Any:
    """The literal that a module assigns to a name at its top level; None without an assignment."""
    for node in parse_module(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == name:
            return ast.literal_eval(node.value)
    return None


def read_revision(module: str) -> int | str | None:
    """The module's REVISION; None for a module without one, which changes no number.

    That of one of the user's plug-ins is a digest of its content and of what it imports beside it.
    """
    if is_own(module):
        return compute_fingerprint(*filter(is_own, compute_import_closure(module)))
    return literal_of(module, "REVISION")


def list_declared(module: str) -> tuple[str, ...]:
    """The components that a module declares; what one of the user's plug-ins imports."""
    if not is_own(module):
        return literal_of(module, "COMPONENTS") or ()
    ours = [m for m in compute_import_closure(module) if not is_own(m)]
    return tuple(m for m in ours if read_revision(m) is not None)


def with_declared(modules: Iterable[str]) -> tuple[str, ...]:
    """The modules and those that they declare as their ``COMPONENTS``; sorted, without repeats."""
    modules = set(modules)
    return tuple(sorted(modules.union(*map(list_declared, modules))))


def collect_revisions(*components: str) -> dict[str, int | str]:
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


@cache_by_plugins
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
