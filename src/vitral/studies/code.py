"""Which code a number comes from: a hash of what the code does, not of how it is commented.

A record of other code is not reused in silence.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

import vitral

ROOT = Path(vitral.__file__).parent
TRAINING = ("base", "data", "nn", "train", "store", "studies/training.py", "studies/changes.py", "studies/loops")
MEASURING = ("explain", "studies/matching.py")


@cache
def fingerprint(what: str) -> str:
    """Of the code that trains ("training"), or of that and what measures in a claim's file, by its name."""
    return hashlib.sha256(repr(sorted(hashes(what).items())).encode()).hexdigest()[:16]


@cache
def hashes(what: str) -> dict[str, str]:
    """Each file's own hash, by its path in the package."""
    places = TRAINING if what == "training" else (*TRAINING, *MEASURING, f"studies/claims/{what}.py")
    files = (file for place in places for file in files_in(ROOT / place))
    return {file.relative_to(ROOT).as_posix(): of_source(file.read_text(encoding="utf-8")) for file in files}


def files_in(place: Path) -> list[Path]:
    return sorted(place.rglob("*.py")) if place.is_dir() else [place] if place.is_file() else []


def of_source(source: str) -> str:
    """The hash of a file without its comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            assert isinstance(body, list)
            body[:1] = [ast.Pass()]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:16]
