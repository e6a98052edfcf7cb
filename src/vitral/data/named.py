"""Data is named the same everywhere: a built-in set, with options if wanted (`shapes:size=64,n=10000`), or a path."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitral.base.errors import ConfigError, UnknownName
from vitral.base.lookup import find, names, nearest
from vitral.data.dataset import Dataset
from vitral.data.digits import digits


def built_in() -> dict[str, Callable[..., Dataset]]:
    """Name -> maker of every data set that needs no files."""
    return {name: find("data.synthetic", name, "data set") for name in names("data.synthetic")} | {"digits": digits}


def named(spec: str) -> Dataset | Path:
    """A built-in data set, or the folder that `spec` is the path of.

    Raises `UnknownName` for a name that is neither, `ConfigError` for an option that the set does not have.
    """
    name, _, settings = spec.partition(":")
    known = built_in()
    if name in known:
        return known[name](**options_of(name, known[name], settings))
    if spec and Path(spec).is_dir():
        return Path(spec)
    if spec and Path(spec).exists():
        raise UnknownName(f"{spec} is a file. Data is a folder of class folders, or one of: {', '.join(known)}.")
    raise UnknownName(f"There is no data set or folder {spec!r}.{nearest(name, known)} Built-in: {', '.join(known)}.")


def options_of(name: str, make: Callable[..., Dataset], settings: str) -> dict[str, Any]:
    """Read `size=64,n=10000` by the signature of the data set's function."""
    known = {key: parameter.default for key, parameter in inspect.signature(make).parameters.items()}
    given: dict[str, Any] = {}
    for item in filter(None, settings.split(",")):
        key, _, text = item.partition("=")
        if key not in known:
            raise ConfigError(f"{name} has no option {key!r}.{nearest(key, known)} Options: {', '.join(known)}.")
        if key in given:
            raise ConfigError(f"{name}:{key} is given twice, {given[key]} and {text}. Give it once.")
        kind = type(known[key])
        try:
            given[key] = kind(text)
        except ValueError as error:
            raise ConfigError(
                f"{name}:{key} takes a value of type {kind.__name__}, as in {name}:{key}={known[key]}; found {item!r}."
            ) from error
    return given
