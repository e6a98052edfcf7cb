"""How long the code is: lines besides blanks, comments and docstrings, by folder, and how many comments there are.

python -m benchmarks code_size               measures this code; the "before" figures in the results stay
python -m benchmarks.code_size CHECKOUT      measures another checkout of the project, as "before"
"""

import ast
import io
import json
import sys
import tokenize
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "code_size.json"
LAYOUT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
HARD = ("recording", "explain", "training", "weights", "nn", "explain/trials.py", "explain/scoring.py")
Figures = dict[str, Any]


def docstring_lines(tree: ast.Module) -> set[int]:
    """The lines of a module's, its classes' and its functions' docstrings."""
    lines: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            first = node.body[0]
            constant = first.value if isinstance(first, ast.Expr) else None
            if isinstance(constant, ast.Constant) and isinstance(constant.value, str):
                lines.update(range(first.lineno, (first.end_lineno or first.lineno) + 1))
    return lines


def count(source: str) -> tuple[int, int]:
    """Lines of code of a file, and comments that say something (not to a linter, and not a shebang)."""
    code: set[int] = set()
    comments = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in LAYOUT:
            code.update(range(token.start[0], token.end[0] + 1))
        elif token.type == tokenize.COMMENT:
            comments += not token.string.startswith(("# noqa", "# type:", "#!", "# fmt:", "# isort"))
    return len(code - docstring_lines(ast.parse(source))), comments


def kernel_calls(source: str) -> int:
    """How often a file calls `scaled_dot_product_attention`."""
    return sum(
        isinstance(node, ast.Call) and ast.unparse(node.func).endswith("scaled_dot_product_attention")
        for node in ast.walk(ast.parse(source))
    )


def measure(checkout: Path) -> Figures:
    home = checkout / "src" / "vitral"
    lines: Counter[str] = Counter()
    comments: Counter[str] = Counter()
    kernels: dict[str, int] = {}
    methods: dict[str, int] = {}
    per_folder: defaultdict[str, int] = defaultdict(int)
    for path in sorted(home.rglob("*.py")):
        source, place = path.read_text(encoding="utf-8"), path.relative_to(home)
        lines[str(place)], comments[str(place)] = count(source)
        per_folder[place.parts[0] if len(place.parts) > 1 else "."] += lines[str(place)]
        if place.parts[0] == "nn" and (calls := kernel_calls(source)):
            kernels[str(place)] = calls
        if place.parent == Path("explain/methods") and place.stem != "__init__":
            methods[place.stem] = len(source.splitlines())
    return {
        "lines of code in src": sum(lines.values()),
        "lines of code by folder": dict(sorted(per_folder.items())),
        "files in src": len(lines),
        "lines of code in tests": sum(
            count(path.read_text(encoding="utf-8"))[0] for path in (checkout / "tests").rglob("*.py")
        ),
        "lines of code in tests by folder": {
            folder.name: sum(count(path.read_text(encoding="utf-8"))[0] for path in folder.rglob("*.py"))
            for folder in sorted((checkout / "tests").iterdir())
            if folder.is_dir() and folder.name != "__pycache__"
        },
        "comments per 100 lines of code": {"src": per_hundred(comments, lines, "")}
        | {place: per_hundred(comments, lines, place) for place in HARD},
        "lines of a method's file, docstrings included": methods,
        "calls of scaled_dot_product_attention in nn": kernels | {"all": sum(kernels.values())},
    }


def per_hundred(comments: Counter[str], lines: Counter[str], place: str) -> float:
    """Comments per 100 lines of code in a file or folder; 0 where there is no code."""
    chosen = [file for file in lines if not place or file == place or file.startswith(place + "/")]
    return round(100 * sum(comments[file] for file in chosen) / max(1, sum(lines[file] for file in chosen)), 1)


def side_by_side(
    result: Path,
    before: Figures | None = None,
    after: Figures | None = None,
    show: Callable[[Figures, Figures], Iterator[str]] | None = None,
) -> dict[str, object]:
    """The record of a result with new figures before or after; those not given are as they were in its file.

    Figures from before are written at once, since they are measured alone.
    """
    known = json.loads(result.read_text(encoding="utf-8")) if result.exists() else {}
    record = {"before": before or known.get("before", {}), "after": after or known.get("after", {})}
    for line in (show or table)(record["before"], record["after"] or record["before"]):
        print(f"   {line}")
    if before is not None:
        result.write_text(json.dumps(known | record, indent=2) + "\n", encoding="utf-8")
    return record


def table(before: Figures, after: Figures) -> Iterator[str]:
    """The figures of both versions, a line each."""
    for name, now in after.items():
        values = now if isinstance(now, dict) else {"": now}
        earlier = before.get(name, {})
        earlier = earlier if isinstance(earlier, dict) else {"": earlier}
        for key in sorted({*earlier, *values}):
            yield f"{name}{key and f': {key}':<30} {earlier.get(key, '-'):>8} {values.get(key, '-'):>8}"


def run() -> dict[str, object]:
    return side_by_side(RESULT, after=measure(ROOT))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    side_by_side(RESULT, before=measure(Path(sys.argv[1]).resolve()))
