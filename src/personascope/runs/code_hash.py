"""A hash of the code that defines a stage's results, so that a changed formula reruns what it changed.

Snakemake sees it as a parameter, and the store has it in its keys. It covers the module that a rule names and all that
this imports inside the package, directly or not, but for PLUMBING. It is taken over the syntax tree without docstrings:
a comment or a reformatted line must not cost GPU hours.
"""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
NAME = PACKAGE.name

# What carries results about and cannot change them, whatever is done to it; what it imports is plumbing as well.
PLUMBING = {
    "": "the version and the names for notebooks",
    "errors": "how mistakes are reported",
    "formats.files": "files written whole, JSON read with the place of a mistake; keys of the store are new when it is",
    "hosting.loaded": "what a host keeps in memory",
    "hosting.operations": "finds an operation and checks a request's types",
    "hosting.progress": "how progress is reported",
    "hosting.store": "finds finished work by keys that say all about it",
}


@cache
def code_hash(*modules: str) -> str:
    """Short hash over some modules ("directions.axis") and what they import; KeyError for one that does not exist."""
    digest = hashlib.sha256()
    for module in covered(*modules):
        digest.update(_digest(module))
    return digest.hexdigest()[:16]


@cache
def _digest(module: str) -> bytes:
    """Of one module's name and code."""
    return hashlib.sha256(f"{module}\n{ast.dump(_without_docstrings(_parsed(module)))}".encode()).digest()


def covered(*modules: str) -> list[str]:
    """The modules that a hash covers, sorted: these and what they import inside the package, without PLUMBING."""
    found: set[str] = set()
    pending = [part for module in modules for part in (*_with_parents(module), module)]
    while pending:
        module = pending.pop()
        if module not in found and module not in PLUMBING:
            found.add(module)
            pending += imports(module)
    return sorted(found)


@cache
def imports(module: str) -> frozenset[str]:
    """Modules of the package that one imports, wherever in it, and the packages that are thereby imported."""
    found: set[str] = set()
    for node in ast.walk(_parsed(module)):
        for name in _imported_names(node):
            if name == NAME or name.startswith(f"{NAME}."):
                found |= set(_with_parents(name.removeprefix(NAME).removeprefix(".")))
    return frozenset(found - {module})


def _imported_names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield node.module
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _with_parents(name: str) -> Iterator[str]:
    """The module, if it is one, and the packages around it."""
    parts = name.split(".")
    yield from (part for part in (".".join(parts[:n]) for n in range(1, len(parts) + 1)) if _file(part))


def _file(module: str) -> Path | None:
    base = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    candidates = (base / "__init__.py", base.with_suffix(".py"))
    return next((file for file in candidates if file.is_file()), None)


@cache
def _parsed(module: str) -> ast.Module:
    file = _file(module)
    if file is None:
        raise KeyError(f"{NAME}.{module}: no such module")
    return ast.parse(file.read_text(encoding="utf-8"))


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            # A string that stands alone is a docstring, also below a field.
            node.body = [line for line in node.body if not _is_text(line)] or [ast.Pass()]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
