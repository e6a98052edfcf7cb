"""Find things by name.

The folder is the registry: `methods/rollout.py` defines `rollout`, and that is its whole enrolment.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules, walk_packages
from typing import Any

from vitral.base.errors import UnknownName


def names(folder: str) -> list[str]:
    """What a folder of the package offers, sorted: `names("explain.methods")` -> `["attention", ...]`."""
    package = import_module(f"vitral.{folder}")
    return sorted(module.name for module in iter_modules(package.__path__) if not module.name.startswith("_"))


def find(folder: str, name: str, kind: str) -> Any:
    """The object that `vitral/<folder>/<name>.py` is named after; `kind` is what a message calls it.

    Raises `UnknownName` with the nearest known name, or if the file does not define what it is named after.
    """
    check_name(name, names(folder), kind)
    module = import_module(f"vitral.{folder}.{name}")
    if not hasattr(module, name):
        raise UnknownName(f"{module.__file__} defines no {name!r}: the {kind} in it has the name of its file.")
    return getattr(module, name)


def check_name(name: str, known: Iterable[str], kind: str) -> None:
    """Raise `UnknownName` unless `name` is one of `known`."""
    known = sorted(known)
    if name not in known:
        raise UnknownName(f"There is no {kind} {name!r}.{nearest(name, known)} Known: {', '.join(known)}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'rollout'?", or nothing when nothing is near."""
    spellings = {spelling.lower(): spelling for spelling in known}
    close = get_close_matches(name.lower(), spellings, n=1, cutoff=0.5)
    return f" Did you mean {spellings[close[0]]!r}?" if close else ""


def path_of(part: Any) -> str:
    """Where a part of the package is defined, `"nn.family.pool:MeanPool"`; for any other object, what it is called."""
    module, name = getattr(part, "__module__", ""), getattr(part, "__qualname__", repr(part))
    return f"{module.removeprefix('vitral.')}:{name}"


def at_path(path: str, within: str) -> Any:
    """The object that `path_of` named, if it is one of the package's own below `within`.

    Nothing outside the package is ever imported for a name found in a file. Raises `UnknownName`.
    """
    module, _, name = path.partition(":")
    known = {file.name for file in walk_packages(import_module(f"vitral.{within}").__path__, f"vitral.{within}.")}
    if f"vitral.{module}" in known:
        found = getattr(import_module(f"vitral.{module}"), name, None)
        if found is not None and getattr(found, "__module__", "") == f"vitral.{module}":
            return found
    raise UnknownName(f"{path} is no part of Vitral's models, so a model that has it cannot be built from its file.")
