"""`python -m benchmarks.messages`: every text that Vitral can print, once, with its file and line, for an editor.

Those are the texts of errors that are raised, of results, notes and progress, and of the options' help. A value that is
filled in is shown as the expression in braces.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from vitral.base import errors

SOURCE = Path(__file__).parents[1] / "src" / "vitral"
ERRORS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}
SPOKEN = {"say", "print_result", "print", "note", "report", "Option", "append"}  # `append` in a list of notes
LISTS = {"notes", "lines", "assumed", "changes", "lost"}  # whose `append` is a message


def text_of(node: ast.expr) -> str:
    """The literal text of an expression, with filled-in values in braces; empty if it has none."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(text_of(part) for part in parts)
        case ast.FormattedValue(value=value):
            return f"{{{ast.unparse(value)}}}"
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return text_of(left) + text_of(right)
        case ast.IfExp(body=body, orelse=other):
            return " / ".join(filter(None, (text_of(body), text_of(other))))
        case ast.Starred(value=value):
            return text_of(value)
    return ""


def messages(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, kind and text of each message in a file."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        if name not in ERRORS | SPOKEN:
            continue
        if name == "append" and not any(ast.unparse(function).endswith(f"{one}.append") for one in LISTS):
            continue
        for argument in node.args:
            text = " ".join(text_of(argument).split())
            if " " in text and any(letter.isalpha() for letter in text):
                yield node.lineno, "help" if name == "Option" else name, text


def main() -> None:
    seen: set[str] = set()
    for path in sorted(SOURCE.rglob("*.py")):
        found = sorted(one for one in messages(ast.parse(path.read_text(encoding="utf-8"))) if one[2] not in seen)
        if found:
            print(f"\n## {path.relative_to(SOURCE)}\n")
        for line, kind, text in found:
            if text not in seen:
                seen.add(text)
                print(f"{line:>4}  {kind}: {text}")
    print(f"\n{len(seen)} messages")


if __name__ == "__main__":
    main()
