"""A station's start file: its solution without the code below each `# Yours: ` comment."""

import re
from importlib.resources import files

from vitral.base.lookup import check_name, names

MARK = re.compile(r"^( *)# Yours: ")


def read_solution(name: str) -> str:
    """Return the solution's source; it imports earlier stations from files in the same folder. Raises `UnknownName`."""
    check_name(name, names("lab.solutions"), "station")
    source = (files("vitral.lab.solutions") / f"{name}.py").read_text(encoding="utf-8")
    return source.replace("from vitral.lab.solutions.", "from ")


def build_start_file(name: str) -> str:
    """Return the solution's source with the code below each `# Yours: ` removed, up to the end of its function."""
    output: list[str] = []
    depth: int | None = None  # the indentation of the function body that is being removed
    for line in read_solution(name).splitlines():
        indentation = len(line) - len(line.lstrip())
        if depth is not None and (not line.strip() or indentation >= depth):
            continue
        if depth is not None:
            output += ["", ""] if indentation == 0 else [""]
            depth = None
        output.append(line.replace("# Yours: ", "# TODO: "))
        if mark := MARK.match(line):
            depth = len(mark[1])
            output.append(f"{mark[1]}raise NotImplementedError")
    return "\n".join(output) + "\n"


def find_required(name: str) -> list[str]:
    """Return the names of the stations whose files a station imports."""
    known = names("lab.solutions")
    imported = re.findall(r"^from (\w+) import", read_solution(name), re.MULTILINE)
    return [other for other in imported if other in known]


def find_all_required(name: str) -> list[str]:
    """Return the names of the stations that a station imports, directly or through others."""
    found = find_required(name)
    for other in found:  # the list grows while it is read
        found += [own for own in find_required(other) if own not in found]
    return found
