"""How data is specified everywhere: a built-in set with optional settings (`shapes:size=64,n=10000`), or a folder."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitral.base.errors import ConfigError, UnknownName
from vitral.base.lookup import find, names, nearest
from vitral.data.dataset import Dataset
from vitral.data.digits import digits


def built_in_sets() -> dict[str, Callable[..., Dataset]]:
    """Name -> function that makes the data set, for every set that needs no files."""
    return {name: find("data.synthetic", name, "data set") for name in names("data.synthetic")} | {"digits": digits}


def find_data(spec: str) -> Dataset | Path:
    """The built-in data set, or the folder, that `spec` specifies.

    A built-in name wins over a folder of that name; `./shapes` is the folder. Raises `UnknownName` for a name that is
    neither, `ConfigError` for an option that the set does not have.

    >>> data = find_data("shapes:size=24,n=16")
    >>> data.name, data.preprocessing.size, len(data.train)
    ('shapes', (24, 24), 16)
    """
    name, _, settings = spec.partition(":")
    known = built_in_sets()
    if name in known:
        return known[name](**parse_options(name, known[name], settings))
    if spec and Path(spec).is_dir():
        return Path(spec)
    choices = f"Specify a folder of class folders, or one of: {', '.join(known)}."
    if spec and Path(spec).exists():
        raise UnknownName(f"{spec} is a file, not a data set. {choices}")
    raise UnknownName(f"There is no data set or folder {spec!r}.{nearest(name, known)} {choices}")


def parse_options(name: str, make: Callable[..., Dataset], settings: str) -> dict[str, Any]:
    """Parse `size=64,n=10000`; names, types and defaults come from the signature of the data set's function."""
    known = {key: parameter.default for key, parameter in inspect.signature(make).parameters.items()}
    parsed: dict[str, Any] = {}
    for item in filter(None, settings.split(",")):
        key, _, text = item.partition("=")
        if key not in known:
            raise ConfigError(f"{name} has no option {key!r}.{nearest(key, known)} Options: {', '.join(known)}.")
        if key in parsed:
            raise ConfigError(f"{name}:{key} is specified twice, as {parsed[key]} and {text}. Specify it once.")
        kind = type(known[key])
        try:
            parsed[key] = kind(text)
        except ValueError as error:
            raise ConfigError(
                f"{name}:{key} must be of type {kind.__name__}, as in {name}:{key}={known[key]}; found {item!r}."
            ) from error
    return parsed
