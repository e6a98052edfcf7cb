"""Read an answer without running it: does it parse, does it define what is asked, does it do so by itself?"""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vitral.base.lookup import nearest
from vitral.lab.report import Report
from vitral.lab.start import needed, solution_text, start_text

Defined = dict[str, ast.FunctionDef | ast.ClassDef]
WRITTEN = {"class": "class", "function": "def"}
NO_DEFINITION = ast.Constant | ast.Lambda
LETTER = re.compile(r"([abcABC])\b")
DOTTED = re.compile(r"\w+(\.\w+)+")
GIVEN = ("vitral", "timm", "transformers", "torchvision", "vit_pytorch")  # libraries that hold the answer


def read(name: str, path: Path) -> Report | None:
    """What is wrong with the file as a text; None if it can be run."""
    if path.is_dir():
        return failed(f"{path} is a folder: rename it, and `vitral lab start {name}` writes a file of that name.")
    if not path.is_file():
        there = "here" if path.parent == Path() else f"in {path.parent}"
        return failed(f"There is no {path.name} {there}. `vitral lab start {name}{elsewhere(path.parent)}` writes it.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        tree = ast.parse(text)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return failed(f"Line {line} of {path.name} is no text: save the file as UTF-8.")
    except OSError as error:
        return failed(f"{path} cannot be read: {error.strerror}.")
    except SyntaxError as error:
        if "\0" in text:
            return failed(
                f"{path.name} is no text: line {text[: text.index(chr(0))].count(chr(10)) + 1} has a zero in it."
            )
        wrong = (error.text or "").strip()
        return failed(
            f"Line {error.lineno} of {path.name} is no Python: {error.msg}.{f' It reads: {wrong}' if wrong else ''}"
        )
    except (ValueError, RecursionError, MemoryError) as error:
        return failed(f"{path.name} is no text that Python can read: {error}.")
    if not text.strip():
        return failed(
            f"{path.name} is empty: remove it, and `vitral lab start {name}{elsewhere(path.parent)}` begins anew."
        )
    if text == start_text(name):
        line = text[: text.index("raise NotImplementedError")].count("\n")
        return failed(
            f"{path.name} is as it was written for you. Begin at line {line}, where the first piece of code is missing."
        )
    return unquoted(tree, path) or foreign(tree, path) or neighbours(name, path) or undefined(name, tree, path)


def elsewhere(folder: Path) -> str:
    """What a command must say of a folder that is not the one it runs in."""
    return "" if folder == Path() else f" --folder {folder}"


def failed(said: str) -> Report:
    return Report("file", said)


def definitions(tree: ast.Module) -> Defined:
    return {own.name: own for own in tree.body if isinstance(own, ast.FunctionDef | ast.ClassDef)}


def foreign(tree: ast.Module, path: Path) -> Report | None:
    """An import of what should be written here, by this file or by one beside it that it imports."""
    seen, waiting = {path.stem}, [(tree, path)]
    while waiting:
        tree, path = waiting.pop()
        for line, module in imported(tree):
            root, beside = module.partition(".")[0], path.parent / f"{module}.py"
            if root in GIVEN:
                return failed(
                    f"Line {line} of {path.name} imports {module}, which holds the answer. Write it yourself, "
                    "of torch and einops; if you are stuck, `vitral lab hint` helps."
                )
            if module not in seen and beside.is_file():
                seen.add(module)
                with suppress(SyntaxError, ValueError):  # told of when it runs
                    waiting.append((ast.parse(beside.read_bytes()), beside))
    return None


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Modules that a file imports, with the line; by their names in text, too, as importlib takes them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        if isinstance(node, ast.Import):
            yield from ((node.lineno, own.name) for own in node.names)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            yield node.lineno, node.value


def neighbours(name: str, path: Path) -> Report | None:
    """A file of an earlier station that this one builds on, and that is not there."""
    for other in needed(name):
        if not (path.parent / f"{other}.py").is_file():
            return failed(f"{path.name} builds on {other}.py, which is not here. Do that station first: {other}.")
    return None


def otherwise(name: str, tree: ast.Module) -> int:
    """The line in which a name is deleted, or is made something that no reader can follow; 0 for none."""
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == name:
            return node.lineno
        given = node.targets if isinstance(node, ast.Delete | ast.Assign) else []
        unreadable = isinstance(node, ast.Delete) or (
            isinstance(node, ast.Assign) and isinstance(node.value, NO_DEFINITION)
        )
        if unreadable and name in map(ast.unparse, given):
            return node.lineno
    return 0


def undefined(name: str, tree: ast.Module, path: Path) -> Report | None:
    """What is missing, renamed, of another kind or takes other arguments."""
    found = definitions(tree)
    for wanted, right in definitions(ast.parse(solution_text(name))).items():
        own = found.get(wanted)
        kind = "class" if isinstance(right, ast.ClassDef) else "function"
        if line := otherwise(wanted, tree):
            return failed(
                f"Line {line} of {path.name} gives {wanted} another meaning than a {WRITTEN[kind]}: take it out."
            )
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
    if by_name := [one.arg for one, other in zip(own.args.kwonlyargs, own.args.kw_defaults) if other is None]:
        return (
            f"{name} in line {own.lineno} of {path.name} takes {', '.join(by_name)} by name only; the station calls it "
            f"with ({', '.join(wanted)}), in this order: take the * out."
        )
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
    """The letter that the file predicts, in lower case; or what it says instead, and empty for nothing."""
    said = ""
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if ast.unparse(target) == "prediction":
                said = str(node.value.value).strip()
    letter = LETTER.match(said)
    return letter[1].lower() if letter else said
