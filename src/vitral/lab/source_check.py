"""The first stage: check the source of an answer without running it. Does it parse, and define what is needed?"""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from vitral.base.lookup import nearest
from vitral.lab.report import Report
from vitral.lab.start_file import build_start_file, find_required, read_solution

Definition = ast.FunctionDef | ast.ClassDef
LETTER = re.compile(r"([abcABC])\b")
DOTTED_NAME = re.compile(r"\w+(\.\w+)+")
FORBIDDEN = ("vitral", "timm", "transformers", "torchvision", "vit_pytorch")  # libraries that contain the answer


def check_source(name: str, path: Path) -> Report | None:
    """Return what keeps the file from being run, or None."""
    start = f"`vitral lab start {name}{format_folder_option(path.parent)}`"
    if path.is_dir():
        return fail(f"{path} is a folder: rename it, then `vitral lab start {name}` writes a file with that name.")
    if not path.is_file():
        place = "here" if path.parent == Path() else f"in {path.parent}"
        return fail(f"There is no {path.name} {place}. {start} writes it.")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        tree = ast.parse(text)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return fail(f"Line {line} of {path.name} is not text: save the file as UTF-8.")
    except OSError as error:
        return fail(f"{path} cannot be read: {error.strerror}.")
    except SyntaxError as error:
        if "\0" in text:
            line = text.partition("\0")[0].count("\n") + 1
            return fail(f"{path.name} is not text: line {line} has a null byte.")
        quoted = f" It says: {error.text.strip()}" if error.text and error.text.strip() else ""
        return fail(f"Line {error.lineno} of {path.name} is not valid Python: {error.msg}.{quoted}")
    except (ValueError, RecursionError, MemoryError) as error:
        return fail(f"Python cannot parse {path.name}: {error}.")
    if not text.strip():
        return fail(f"{path.name} is empty: remove it, then {start} writes it again.")
    if text == build_start_file(name):
        line = text[: text.index("raise NotImplementedError")].count("\n")
        return fail(f"{path.name} has not been changed yet. Begin at line {line}, where the first code is missing.")
    return (
        check_quotes(tree, path)
        or check_imports(tree, path)
        or check_required_files(name, path)
        or check_definitions(name, tree, path)
    )


def format_folder_option(folder: Path) -> str:
    """Return the option that a command needs for a folder that is not the current one."""
    return "" if folder == Path() else f" --folder {folder}"


def fail(message: str) -> Report:
    return Report("file", message)


def find_definitions(tree: ast.Module) -> dict[str, Definition]:
    return {own.name: own for own in tree.body if isinstance(own, ast.FunctionDef | ast.ClassDef)}


def check_quotes(tree: ast.Module, path: Path) -> Report | None:
    """Refuse a prediction without quotes, which Python would take for a variable's name."""
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)):
            continue
        if ast.unparse(node.targets[0]) == "prediction":
            return fail(f'Line {node.lineno} of {path.name}: put the letter in quotes, prediction = "{node.value.id}".')
    return None


def check_imports(tree: ast.Module, path: Path) -> Report | None:
    """Refuse an import of a library that contains the answer, in this file or in one beside it that it imports."""
    seen, waiting = {path.stem}, [(tree, path)]
    while waiting:
        tree, path = waiting.pop()
        for line, module in find_imports(tree):
            root, neighbour = module.partition(".")[0], path.parent / f"{module}.py"
            if root in FORBIDDEN:
                return fail(
                    f"Line {line} of {path.name} imports {module}, which contains the answer. Write it yourself "
                    "with torch and einops; if you are stuck, use `vitral lab hint`."
                )
            if module not in seen and neighbour.is_file():
                seen.add(module)
                with suppress(SyntaxError, ValueError):  # reported with its line when the file is run
                    waiting.append((ast.parse(neighbour.read_bytes()), neighbour))
    return None


def find_imports(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield the line and the module of every import; a dotted name in a string may be one, too, for importlib."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield node.lineno, node.module or ""
        if isinstance(node, ast.Import):
            yield from ((node.lineno, own.name) for own in node.names)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and DOTTED_NAME.fullmatch(node.value):
            yield node.lineno, node.value


def check_required_files(name: str, path: Path) -> Report | None:
    """Refuse a file whose earlier stations are missing in its folder."""
    for other in find_required(name):
        if not (path.parent / f"{other}.py").is_file():
            return fail(f"{path.name} imports {other}.py, which is missing here. Do that station first: {other}.")
    return None


def check_definitions(name: str, tree: ast.Module, path: Path) -> Report | None:
    """Refuse a definition that is missing, renamed, of another kind, or takes other arguments."""
    found = find_definitions(tree)
    for wanted, right in find_definitions(ast.parse(read_solution(name))).items():
        own = found.get(wanted)
        kind, keyword = ("class", "class") if isinstance(right, ast.ClassDef) else ("function", "def")
        if line := find_redefinition(wanted, tree):
            return fail(f"Line {line} of {path.name} deletes or redefines {wanted}: define it with {keyword}.")
        if own is None:
            return fail(f"{path.name} defines no {kind} {wanted}.{nearest(wanted, found)}")
        if type(own) is not type(right):
            return fail(f"{wanted} in line {own.lineno} of {path.name} should be a {kind}.")
        if message := describe_call_problem(wanted, own, right, path):
            return fail(message)
    return None


def find_redefinition(name: str, tree: ast.Module) -> int:
    """Return the line in which a name is deleted or set to a value whose arguments cannot be checked, or 0."""
    for node in tree.body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name == name:
            return node.lineno
        is_changed = isinstance(node, ast.Delete) or (
            isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.Lambda)
        )
        targets = node.targets if isinstance(node, ast.Delete | ast.Assign) and is_changed else []
        if name in map(ast.unparse, targets):
            return node.lineno
    return 0


def describe_call_problem(name: str, own: Definition, right: Definition, path: Path) -> str:
    """Return why a function, or a method of a class, cannot be called as the station calls it; else ""."""
    if isinstance(own, ast.FunctionDef) and isinstance(right, ast.FunctionDef):
        return describe_argument_problem(name, own, right, path)
    methods = {one.name: one for one in own.body if isinstance(one, ast.FunctionDef)}
    for method in (one for one in right.body if isinstance(one, ast.FunctionDef)):
        if method.name not in methods:
            return f"{name} in {path.name} has no method {method.name}."
        if message := describe_argument_problem(f"{name}.{method.name}", methods[method.name], method, path):
            return message
    return ""


def describe_argument_problem(name: str, own: ast.FunctionDef, right: ast.FunctionDef, path: Path) -> str:
    """Return why a function does not take the arguments that the station passes by position; else ""."""
    wanted, given = list_arguments(right), list_arguments(own)
    called = f"the station calls it with ({', '.join(wanted)})"
    required = len(given) - len(own.args.defaults)
    if by_name := [one.arg for one, other in zip(own.args.kwonlyargs, own.args.kw_defaults) if other is None]:
        return (
            f"{name} in line {own.lineno} of {path.name} takes {', '.join(by_name)} by name only; "
            f"{called}, in this order: remove the *."
        )
    if own.args.vararg or (len(given) >= len(wanted) >= required):
        return ""
    return f"{name} in line {own.lineno} of {path.name} takes ({', '.join(given)}); {called}."


def list_arguments(function: ast.FunctionDef) -> list[str]:
    return [own.arg for own in function.args.posonlyargs + function.args.args]


def read_prediction(path: Path) -> str:
    """Return the letter that the file predicts, in lower case, or whatever text it has instead."""
    prediction = ""
    for node in ast.parse(path.read_bytes()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if ast.unparse(target) == "prediction":
                prediction = str(node.value.value).strip()
    letter = LETTER.match(prediction)
    return letter[1].lower() if letter else prediction
