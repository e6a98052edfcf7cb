"""Which code a number comes from: the files that were imported to compute it, without their comments and docstrings.

A record from a different version of the code is never reused without a message.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
# These modules describe, decide and show results. They have no part in computing a record, so that editing a sentence
# or a figure does not make hours of training stale. Prefixes: "report" stands for the whole package.
SHOWING = "study arms effects decision_rules statistics results figures code_fingerprint"
NOT_COMPUTING = ("report", *(f"studies.{name}" for name in SHOWING.split()))


def hashes(*modules: str) -> dict[str, str]:
    """The hash of each file that the modules (`studies.training`) import, directly or not, by its path."""
    found, waiting = set[str](), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found and not module.startswith(NOT_COMPUTING):
            found.add(module)
            waiting += imports(module)
    return {file_of(module).relative_to(ROOT).as_posix(): hash_of(module) for module in sorted(found)}


def fingerprint(*modules: str) -> str:
    """One hash of all of them."""
    return hashlib.sha256(repr(hashes(*modules)).encode()).hexdigest()[:16]


def file_of(module: str) -> Path:
    """The file where a module would be; it need not exist."""
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


@cache
def imports(module: str) -> tuple[str, ...]:
    """The modules of this package that a module imports anywhere in its file."""
    found: list[str] = []
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from a import b` may import the module a.b or a name from a: `file_of` shows which of them exist.
            found += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
    own = (name.removeprefix("vitral.") for name in found if name.startswith("vitral."))
    return tuple(dict.fromkeys(name for name in own if file_of(name).is_file()))


def parse(module: str) -> ast.Module:
    return ast.parse(file_of(module).read_text(encoding="utf-8"))


@cache
def hash_of(module: str) -> str:
    """The hash of a file's syntax tree without docstrings; a tree has no comments."""
    tree = parse(module)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body[:1] = [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
