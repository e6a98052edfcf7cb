"""Which code a number comes from: the files that are imported to make it, by what they do, not by their comments.

A record of other code is not reused in silence.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
OWN = ("study", "arms", "rules", "statistics", "results", "drawing", "code")
SAYING = ("report", *(f"studies.{name}" for name in OWN))  # these say what was found, and have no part in finding it


def hashes(*modules: str) -> dict[str, str]:
    """The hash of each file that the modules (`studies.training`) import, directly or not; by its path."""
    found, waiting = set[str](), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found and not module.startswith(SAYING):
            found.add(module)
            waiting += imports(module)
    return {file_of(module).relative_to(ROOT).as_posix(): hash_of(module) for module in sorted(found)}


def fingerprint(*modules: str) -> str:
    """All of it in one."""
    return hashlib.sha256(repr(hashes(*modules)).encode()).hexdigest()[:16]


def file_of(module: str) -> Path:
    """Where a module is; it may be none."""
    place = ROOT.joinpath(*module.split("."))
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@cache
def imports(module: str) -> tuple[str, ...]:
    """The modules of the package that a module names in its imports."""
    named: list[str] = []
    for node in ast.walk(parsed(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            named += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
    own = (name.removeprefix("vitral.") for name in named if name.startswith("vitral."))
    return tuple(dict.fromkeys(name for name in own if file_of(name).is_file()))


@cache
def parsed(module: str) -> ast.Module:
    return ast.parse(file_of(module).read_text(encoding="utf-8"))


@cache
def hash_of(module: str) -> str:
    """Of a file without its comments and docstrings."""
    tree = ast.parse(file_of(module).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[:1] = [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
