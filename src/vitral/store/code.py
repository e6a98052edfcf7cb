"""The reader's own model, named as `file.py:Name`: Vitral trains, watches and judges it like its own."""

import importlib.util
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
    if attribute not in modules:
        raise UnknownName(
            f"{file} defines no {attribute!r}.{nearest(attribute, modules)} "
            f"It defines: {', '.join(modules) or 'nothing to call'}."
        )
    model = call(modules[attribute], name, dict(num_classes=num_classes, img_size=square(img_size), in_channels=3))
    if not isinstance(model, nn.Module):
        raise ConfigError(f"{name} made a {type(model).__name__}, not a torch.nn.Module.")
    cast(Classifier, model).code = {"file": str(path), "name": attribute, "sha256": sha256(path)}
    return model


def square(size: tuple[int, int]) -> int | tuple[int, int]:
    return size[0] if size[0] == size[1] else size


def run(path: Path) -> ModuleType:
    """Import a file by its path; a mistake in it is reported with its line."""
    spec = importlib.util.spec_from_file_location(f"vitral_code_{path.stem}", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever the reader's file raises
        raise UsageError(
            f"{path.name} does not run: {type(error).__name__} in line {line_of(error, path)}: {error}."
        ) from error
    return module


def call(make: Callable[..., Any], name: str, offered: dict[str, Any]) -> Any:
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
        raise UsageError(
            f"{name}({', '.join(f'{k}={v}' for k, v in taken.items())}) failed: {type(error).__name__}: {error}."
        ) from error


def line_of(error: Exception, path: Path) -> int | str:
    if isinstance(error, SyntaxError):
        return error.lineno or "?"
    lines, trace = [], error.__traceback__
    while trace:
        if trace.tb_frame.f_code.co_filename == str(path):
            lines.append(trace.tb_lineno)
        trace = trace.tb_next
    return lines[-1] if lines else "?"
