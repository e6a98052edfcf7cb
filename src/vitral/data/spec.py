"""How data is specified everywhere: a built-in set with optional settings (`shapes:size=64,n=10000`), or a folder.

A folder, or a table of labels in it, takes options too: `photos:task=numbers`, `photos/labels.csv:label=cat+dog`.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vitral.base.errors import ConfigError, UnknownName
from vitral.base.lookup import find, names, nearest
from vitral.base.record import parse_task
from vitral.data.dataset import Dataset
from vitral.data.digits import digits
from vitral.data.folder import ImageFolder
from vitral.data.labels import SEPARATORS
from vitral.data.table_file import SUFFIXES as TABLE_SUFFIXES


def built_in_sets() -> dict[str, Callable[..., Dataset]]:
    """Name -> function that makes the data set, for every set that needs no files."""
    return {name: find("data.synthetic", name, "data set") for name in names("data.synthetic")} | {"digits": digits}


def find_data(spec: str) -> Dataset | ImageFolder:
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
    if (found := find_folder(spec)) is not None:
        return found
    choices = f"Specify a folder with class folders or a table of labels, or one of: {', '.join(known)}."
    if spec and Path(spec).exists():
        raise UnknownName(f"{spec} is a file, not a data set. {choices}")
    raise UnknownName(f"There is no data set or folder {spec!r}.{nearest(name, known)} {choices}")


def find_folder(spec: str) -> ImageFolder | None:
    """A folder, or a table in one, perhaps with options after a colon; None if there is none.

    Raises `ConfigError` for an option that does not exist, or a value that it does not take.
    """
    # The options follow the last colon; a path that has one of its own exists as it is.
    name, _, settings = (spec, "", "") if not spec or Path(spec).exists() else spec.rpartition(":")
    path = Path(name)
    if not name or not (path.is_dir() or (path.is_file() and path.suffix.lower() in TABLE_SUFFIXES)):
        return None
    given: dict[str, Any] = {}
    for item in filter(None, settings.split(",")):
        key, _, text = item.partition("=")
        if key not in FOLDER_OPTIONS:
            raise ConfigError(
                f"A folder has no option {key!r}.{nearest(key, FOLDER_OPTIONS)} Options: {', '.join(FOLDER_OPTIONS)}."
            )
        given[key] = FOLDER_OPTIONS[key](text)
    return ImageFolder(path, **given) if path.is_dir() else ImageFolder(path.parent, path, **given)


def parse_separator(text: str) -> str:
    """A separator by name, or as it is; a comma separates options, so it has a name only."""
    return SEPARATORS.get(text, text)


FOLDER_OPTIONS: dict[str, Callable[[str], Any]] = {
    "task": parse_task,
    "label": lambda text: tuple(text.split("+")),
    "separator": parse_separator,
}


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
