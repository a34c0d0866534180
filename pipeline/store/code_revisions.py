"""Which modules make an artefact: the import graph of its stage and of the plug-ins it names."""

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]


def path_of(module: str) -> Path | None:
    """The file of a dotted module or subpackage of this package, None for anything else."""
    parts = module.split(".")
    if parts[0] != "pipeline" or len(parts) == 1:
        return None
    place = ROOT.joinpath(*parts[1:])
    candidates = (place.with_suffix(".py"), place / "__init__.py")
    return next((path for path in candidates if path.exists()), None)


@cache
def tree_of(module: str) -> ast.Module:
    """The parsed file of a module of this package."""
    return ast.parse(path_of(module).read_text())


@cache
def imports_of(module: str) -> frozenset[str]:
    """Modules of this package that a module's text imports, wherever the statement stands."""
    found = set()
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(m for m in found if path_of(m))


@cache
def closure(*modules: str) -> tuple[str, ...]:
    """The modules and everything that they import, directly or not, sorted."""
    seen, waiting = set(), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in seen:
            seen.add(module)
            waiting.extend(imports_of(module))
    return tuple(sorted(seen))


@cache
def revision_of(module: str) -> int | None:
    """The module's REVISION, None where it has none and so changes no number."""
    for node in tree_of(module).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "REVISION":
            return ast.literal_eval(node.value)
    return None


def revisions(*modules: str) -> dict[str, int]:
    """REVISION of every module in the closure that has one."""
    found = {m: revision_of(m) for m in closure(*modules)}
    return {m: number for m, number in found.items() if number is not None}


def fingerprint(*modules: str) -> str:
    """Digest of the closure's syntax trees: comments, docstrings and layout do not count."""
    digest = hashlib.sha256()
    for module in closure(*modules):
        digest.update(f"{module} {digest_of(module)}\n".encode())
    return digest.hexdigest()[:16]


@cache
def digest_of(module: str) -> str:
    """Digest of one module's syntax tree."""
    return hashlib.sha256(canonical(tree_of(module)).encode()).hexdigest()


def canonical(node: object) -> str:
    """A syntax tree as text in which versions of Python agree: no empty fields, no docstrings."""
    if isinstance(node, list):
        return f"[{','.join(canonical(each) for each in node if not is_text(each))}]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = [(name, value) for name, value in ast.iter_fields(node) if value not in (None, [])]
    inside = ",".join(f"{name}={canonical(value)}" for name, value in fields)
    return f"{type(node).__name__}({inside})"


def is_text(node: object) -> bool:
    """Whether a statement is a bare string."""
    constant = node.value if isinstance(node, ast.Expr) else None
    return isinstance(constant, ast.Constant) and isinstance(constant.value, str)
