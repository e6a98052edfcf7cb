"""Finding objects by name.

A folder is the registry: `explain/methods/rollout.py` defines `rollout`, and needs no other registration.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pkgutil import iter_modules, walk_packages
from typing import Any

from vitral.base.errors import UnknownName


def names(folder: str) -> list[str]:
    """The names of the modules in a folder of the package, sorted.

    >>> "shapes" in names("data.synthetic")
    True
    """
    package = import_module(f"vitral.{folder}")
    return sorted(module.name for module in iter_modules(package.__path__) if not module.name.startswith("_"))


def find(folder: str, name: str, kind: str) -> Any:
    """The object `name` in `vitral/<folder>/<name>.py`; messages call it a `kind`.

    Raises `UnknownName` with the nearest name that exists, or if the file does not define an object of its name.
    """
    check_name(name, names(folder), kind)
    module = import_module(f"vitral.{folder}.{name}")
    if not hasattr(module, name):
        raise UnknownName(
            f"{module.__file__} does not define {name!r}. The {kind} in it must have the name of the file."
        )
    return getattr(module, name)


def check_name(name: str, known: Iterable[str], kind: str) -> None:
    """Raise `UnknownName` unless `name` is one of `known`."""
    known = sorted(known)
    if name not in known:
        raise UnknownName(f"There is no {kind} {name!r}.{nearest(name, known)} Available: {', '.join(known)}.")


def nearest(name: str, known: Iterable[str]) -> str:
    """A suggestion to append to a message, or an empty string if no name is near.

    >>> nearest("rolout", ["rollout", "attention"])
    " Did you mean 'rollout'?"
    """
    spellings = {spelling.lower(): spelling for spelling in known}
    close = get_close_matches(name.lower(), spellings, n=1, cutoff=0.5)
    return f" Did you mean {spellings[close[0]]!r}?" if close else ""


def object_path(part: Any) -> str:
    """Module and name of a class or function, `"nn.family.pool:MeanPool"`; of any other object, its representation."""
    module, name = getattr(part, "__module__", ""), getattr(part, "__qualname__", repr(part))
    return f"{module.removeprefix('vitral.')}:{name}"


def import_object(path: str, within: str) -> Any:
    """The object with this `object_path`, if the package defines it below `within`; raises `UnknownName` if not.

    Paths come from files of unknown origin: nothing outside the package is imported, and nothing that a module of the
    package has only imported is returned.
    """
    module, _, name = path.partition(":")
    known = {file.name for file in walk_packages(import_module(f"vitral.{within}").__path__, f"vitral.{within}.")}
    if f"vitral.{module}" in known:
        part = getattr(import_module(f"vitral.{module}"), name, None)
        if part is not None and getattr(part, "__module__", "") == f"vitral.{module}":
            return part
    raise UnknownName(f"{path} is not a part of Vitral, so a model that contains it cannot be built.")
