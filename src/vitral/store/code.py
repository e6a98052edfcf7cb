"""Build the reader's own module, named as `file.py:Name`: Vitral trains, watches and evaluates it like its own."""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any

from torch import nn

from vitral.base.errors import ConfigError, UnknownName, UsageError
from vitral.base.files import sha256
from vitral.base.lookup import nearest
from vitral.base.preprocessing import Preprocessing

# Attributes that Vitral attaches to a model itself.
ATTACHED = ("code", "record", "classes", "provenance")


def is_code(name: str) -> bool:
    """Whether a model's name is `file.py:Name`, rather than the name of an architecture or a folder."""
    return ".py:" in name or name.endswith(".py")


def from_code(name: str, num_classes: int, img_size: tuple[int, int]) -> nn.Module:
    """Build `Name` of `file.py`, with those of `num_classes`, `img_size` (height, width) and `in_channels` it takes.

    The model gets an attribute `code`: its file, name and hash. Raises `UnknownName` if there is no such file or name,
    `UsageError` with the line if the file does not run, `ConfigError` if what it gives is not a module to train.
    """
    file, _, attribute = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    path = Path(file).resolve()
    if not path.is_file():
        raise UnknownName(f"There is no file {file}. Specify your own model as file.py:Name.")
    module = run_file(path)
    own = module.__name__  # what the file only imports has another
    defined = [key for key, made in vars(module).items() if callable(made) and getattr(made, "__module__", "") == own]
    listed = ", ".join(defined) or "nothing to call"
    if not attribute:
        raise UnknownName(f"{file} does not name a class. Specify {file}:NAME; it defines: {listed}.")
    if attribute not in defined:
        raise UnknownName(f"{file} does not define {attribute!r}.{nearest(attribute, defined)} It defines: {listed}.")
    side = img_size[0] if img_size[0] == img_size[1] else img_size
    offered = dict(num_classes=num_classes, img_size=side, in_channels=3)
    model: Any = construct(getattr(module, attribute), name, path, offered)
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{name} returns a {type(model).__name__}, not a torch.nn.Module.")
    if not any(True for _ in model.parameters()):
        raise ConfigError(f"{name} has no parameters, so there is nothing to train.")
    if taken := [word for word in ATTACHED if hasattr(model, word)]:
        raise ConfigError(
            f"{name} has an attribute `{taken[0]}` of its own, and Vitral attaches one with that name to every model. "
            "Rename yours."
        )
    stated = getattr(model, "preprocessing", None)
    if stated is not None and not isinstance(stated, Preprocessing):
        raise ConfigError(
            f"{name} has an attribute `preprocessing` of type {type(stated).__name__}; Vitral expects a "
            "vitral.base.preprocessing.Preprocessing there. Use that type, or rename yours."
        )
    model.__dict__["code"] = {"file": str(path), "name": attribute, "sha256": sha256(path)}
    return model


def run_file(path: Path) -> ModuleType:
    """Run a file as a module. Raises `UsageError` with the line of a mistake in it.

    The file is compiled as it is now, not as Python may have cached it, and nothing is cached beside it.
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
        raise UsageError(f"{path.name} does not run: {describe_error(error, path)}") from error
    finally:
        sys.dont_write_bytecode = caching
    return module


def construct(make: Callable[..., Any], name: str, path: Path, offered: dict[str, Any]) -> Any:
    parameters = inspect.signature(make).parameters.values()
    taken = {p.name: offered[p.name] for p in parameters if p.name in offered}
    lacking = [
        p.name
        for p in parameters
        if p.default is p.empty and p.name not in offered and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    if lacking:
        raise ConfigError(
            f"{name} requires {', '.join(lacking)}, which Vitral does not pass. Give it a default. Vitral passes, if "
            f"the constructor takes them: {', '.join(offered)}."
        )
    try:
        return make(**taken)
    except Exception as error:  # whatever the reader's constructor raises
        arguments = ", ".join(f"{k}={v}" for k, v in taken.items())
        raise UsageError(f"{name}({arguments}) failed: {describe_error(error, path)}") from error


def describe_error(error: BaseException, path: Path) -> str:
    """The error and its line in the reader's file: "NameError in line 3: name 'x' is not defined."

    If it was raised in a file beside that one, which it imports, the line is that file's, and the file is named.
    """
    places = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((Path(error.filename), error.lineno or 0))
    theirs = [(file, line) for file, line in places if file.parent == path.parent and line]
    where = "".join(f" in line {line}{'' if file == path else f' of {file.name}'}" for file, line in theirs[-1:])
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    reason = next(iter(message.strip().splitlines()), "").rstrip(".")  # PyTorch's messages may fill a page
    return f"{type(error).__name__}{where}{f': {reason}' if reason else ''}."
