"""Read an answer without running it: does it parse, does it define what is asked, does it do so by itself?"""

import ast
from pathlib import Path

from vitral.base.lookup import nearest
from vitral.lab.report import Report
from vitral.lab.start import needed, solution_text, start_text

Defined = dict[str, ast.FunctionDef | ast.ClassDef]
GIVEN = ("vitral", "timm", "transformers", "torchvision", "vit_pytorch")  # libraries that hold the answer


def read(name: str, path: Path) -> Report | None:
    """What is wrong with the file as a text; None if it can be run."""
    if not path.is_file():
        return failed(f"There is no {path.name} here. `vitral lab start {name}` writes it.")
    try:
        text = path.read_text(encoding="utf-8")
        tree = ast.parse(text)
    except SyntaxError as error:
        wrong = (error.text or "").strip()
        return failed(
            f"Line {error.lineno} of {path.name} is no Python: {error.msg}.{f' It reads: {wrong}' if wrong else ''}"
        )
    except (UnicodeDecodeError, ValueError, RecursionError, MemoryError) as error:
        return failed(f"{path.name} is no text: {error}.")
    if text == start_text(name):
        line = text[: text.index("raise NotImplementedError")].count("\n")
        return failed(
            f"{path.name} is as it was written for you. Begin at line {line}, where the first piece of code is missing."
        )
    return (
        unquoted(tree, path)
        or foreign(tree, path)
        or neighbours(name, path)
        or undefined(name, definitions(tree), path)
    )


def failed(said: str) -> Report:
    return Report("file", said)


def definitions(tree: ast.Module) -> Defined:
    return {own.name: own for own in tree.body if isinstance(own, ast.FunctionDef | ast.ClassDef)}


def foreign(tree: ast.Module, path: Path) -> Report | None:
    """An import of what should be written here."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [own.name for own in node.names]
        for module in modules:
            if module.partition(".")[0] in GIVEN:
                return failed(
                    f"Line {node.lineno} of {path.name} imports {module}, which holds the answer. Write it yourself, "
                    "of torch and einops; if you are stuck, `vitral lab hint` helps."
                )
    return None


def neighbours(name: str, path: Path) -> Report | None:
    """A file of an earlier station that this one builds on, and that is not there."""
    for other in needed(name):
        if not (path.parent / f"{other}.py").is_file():
            return failed(f"{path.name} builds on {other}.py, which is not here. Do that station first: {other}.")
    return None


def undefined(name: str, found: Defined, path: Path) -> Report | None:
    """What is missing, renamed, of another kind or takes other arguments."""
    for wanted, right in definitions(ast.parse(solution_text(name))).items():
        own = found.get(wanted)
        kind = "class" if isinstance(right, ast.ClassDef) else "function"
        if own is None:
            return failed(f"{path.name} defines no {kind} {wanted}.{nearest(wanted, found)}")
        if type(own) is not type(right):
            return failed(f"{wanted} in line {own.lineno} of {path.name} should be a {kind}.")
        if said := uncallable(wanted, own, right, path):
            return failed(said)
    return None


Node = ast.FunctionDef | ast.ClassDef


def uncallable(name: str, own: Node, right: Node, path: Path) -> str:
    """A sentence where a function, or a method of a class, is missing or takes other arguments."""
    if isinstance(own, ast.FunctionDef) and isinstance(right, ast.FunctionDef):
        return signature(name, own, right, path)
    methods = {one.name: one for one in own.body if isinstance(one, ast.FunctionDef)}
    for method in (one for one in right.body if isinstance(one, ast.FunctionDef)):
        if method.name not in methods:
            return f"{name} in {path.name} has no method {method.name}."
        if said := signature(f"{name}.{method.name}", methods[method.name], method, path):
            return said
    return ""


def signature(name: str, own: ast.FunctionDef, right: ast.FunctionDef, path: Path) -> str:
    """A sentence where a function cannot be called as the station calls it."""
    wanted, given = names_of(right), names_of(own)
    required = len(own.args.posonlyargs + own.args.args) - len(own.args.defaults)
    if own.args.vararg or (len(given) >= len(wanted) >= required):
        return ""
    return (
        f"{name} in line {own.lineno} of {path.name} takes ({', '.join(given)}); the station calls it with "
        f"({', '.join(wanted)})."
    )


def names_of(function: ast.FunctionDef) -> list[str]:
    return [own.arg for own in function.args.posonlyargs + function.args.args]


def unquoted(tree: ast.Module, path: Path) -> Report | None:
    """A prediction that Python would take for a name."""
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)):
            continue
        if ast.unparse(node.targets[0]) == "prediction":
            letter = node.value.id
            return failed(f'Line {node.lineno} of {path.name}: put the letter in quotes, prediction = "{letter}".')
    return None


def predicted(path: Path) -> str:
    """The letter that the file predicts, in lower case; empty where it says none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "prediction":
            value = node.value.value if isinstance(node.value, ast.Constant) else ""
            return value.strip().lower() if isinstance(value, str) else ""
    return ""
