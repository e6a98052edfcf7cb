"""The reader's own model, named as `file.py:Name`: Vitral trains, watches and judges it like its own."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from torch import nn

from vitral.base.errors import ConfigError, UnknownName, UsageError
from vitral.base.files import sha256
from vitral.base.lookup import nearest
from vitral.base.preprocessing import Preprocessing
from vitral.store.classifier import Classifier


def is_code(name: str) -> bool:
    """Whether a model's name is `file.py:Name` rather than a name of the zoo or a folder."""
    return ".py:" in name or name.endswith(".py")


def from_code(name: str, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
    """Build `Name` of `file.py`, passing it what it asks for among `num_classes`, `img_size` and `in_channels`.

    The model gets a `code` that says where it came from. Raises `UsageError` with the line if the file does not run.
    """
    file, _, attribute = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    path = Path(file).resolve()
    if not path.is_file():
        raise UnknownName(f"There is no file {file}. Your own model is named as file.py:Name.")
    module = run(path)
    modules = {
        key: value
        for key, value in vars(module).items()
        if callable(value) and getattr(value, "__module__", "") == module.__name__
    }
    if not attribute:
        raise UnknownName(f"{file} names no class. Say which: {file}:NAME, of {', '.join(modules) or 'none there is'}.")
    if attribute not in modules:
        raise UnknownName(
            f"{file} defines no {attribute!r}.{nearest(attribute, modules)} "
            f"It defines: {', '.join(modules) or 'nothing to call'}."
        )
    model = call(
        modules[attribute], name, path, dict(num_classes=num_classes, img_size=square(img_size), in_channels=3)
    )
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{name} made a {type(model).__name__}, not a torch.nn.Module.")
    if not any(True for _ in model.parameters()):
        raise ConfigError(f"{name} has no parameters, so there is nothing to train.")
    if taken := [word for word in ("code", "classes", "provenance") if hasattr(model, word)]:
        raise ConfigError(
            f"{name} has a `{taken[0]}` of its own, which is what Vitral calls something that it gives every model. "
            "Call yours something else."
        )
    own = getattr(model, "preprocessing", None)
    if own is not None and not isinstance(own, Preprocessing):
        raise ConfigError(
            f"{name} has a `preprocessing` of type {type(own).__name__}, where Vitral looks for how images are cut "
            "and scaled: a vitral.base.preprocessing.Preprocessing. Make it one, or call yours something else."
        )
    cast(Classifier, model).code = {"file": str(path), "name": attribute, "sha256": sha256(path)}
    return model


def square(size: tuple[int, int]) -> int | tuple[int, int]:
    return size[0] if size[0] == size[1] else size


def run(path: Path) -> ModuleType:
    """Run a file as a module; a mistake in it is reported with its line.

    As it is now, not as Python may have cached it; and nothing is cached beside it.
    """
    module = ModuleType(f"vitral_code_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))  # as Python does for a script: it may import the files beside it
    caching, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        exec(compile(path.read_bytes(), str(path), "exec"), vars(module))
    except (Exception, SystemExit) as error:  # whatever the reader's file raises
        raise UsageError(f"{path.name} does not run: {in_line(error, path)}") from error
    finally:
        sys.dont_write_bytecode = caching
    return module


def call(make: Callable[..., Any], name: str, path: Path, offered: dict[str, Any]) -> Any:
    parameters = inspect.signature(make).parameters.values()
    taken = {p.name: offered[p.name] for p in parameters if p.name in offered}
    lacking = [
        p.name
        for p in parameters
        if p.default is p.empty and p.name not in offered and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if lacking:
        raise ConfigError(
            f"{name} asks for {', '.join(lacking)}, which is not known. "
            f"Give it a default; offered are {', '.join(offered)}."
        )
    try:
        return make(**taken)
    except Exception as error:  # whatever the reader's constructor raises
        arguments = ", ".join(f"{k}={v}" for k, v in taken.items())
        raise UsageError(f"{name}({arguments}) failed: {in_line(error, path)}") from error


def in_line(error: BaseException, path: Path) -> str:
    """What went wrong, and in which line of the reader's file: "NameError in line 3: name 'x' is not defined."

    Where it went wrong in a file beside that one, which it imports, the line is that file's, and it is named.
    """
    places, trace = [], error.__traceback__
    while trace:
        places.append((Path(trace.tb_frame.f_code.co_filename), trace.tb_lineno))
        trace = trace.tb_next
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(error.filename), error.lineno or 0))
    theirs = [(file, line) for file, line in places if file.parent == path.parent and line]
    where = ""
    if theirs:
        file, line = theirs[-1]
        where = f" in line {line}{'' if file == path else f' of {file.name}'}"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    reason = next(iter(said.strip().splitlines()), "").rstrip(".")  # PyTorch's own go on for a page
    return f"{type(error).__name__}{where}{f': {reason}' if reason else ''}."
