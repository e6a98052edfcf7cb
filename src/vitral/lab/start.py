"""A station's start file: the solution without what follows each `# Yours: `, and with neighbours' files beside it."""

import re
from importlib.resources import files

from vitral.base.lookup import check_name, names

YOURS = re.compile(r"^( *)# Yours: ")


def solution_text(name: str) -> str:
    """The solution as a file of the reader's folder. Raises `UnknownName`."""
    check_name(name, names("lab.solutions"), "station")
    source = (files("vitral.lab.solutions") / f"{name}.py").read_text(encoding="utf-8")
    return source.replace("from vitral.lab.solutions.", "from ")


def start_text(name: str) -> str:
    """The same with everything below a `# Yours: ` taken out, down to where its function ends."""
    kept: list[str] = []
    depth: int | None = None  # of the function whose body is being taken out
    for line in solution_text(name).splitlines():
        own = len(line) - len(line.lstrip())
        if depth is not None and (not line.strip() or own >= depth):
            continue
        if depth is not None:
            kept += ["", ""] if own == 0 else [""]
            depth = None
        kept.append(line.replace("# Yours: ", "# TODO: "))
        if found := YOURS.match(line):
            depth = len(found[1])
            kept.append(f"{found[1]}raise NotImplementedError")
    return "\n".join(kept) + "\n"


def needed(name: str) -> list[str]:
    """The other stations that one builds on, by name."""
    known = names("lab.solutions")
    return [other for other in re.findall(r"^from (\w+) import", solution_text(name), re.MULTILINE) if other in known]


def all_needed(name: str) -> list[str]:
    """The stations that one builds on, and those that they build on."""
    found = needed(name)
    for other in found:
        found += [own for own in needed(other) if own not in found]
    return found
