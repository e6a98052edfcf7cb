"""What is kept in the reader's folder: which stations have passed, and which hints were read."""

import json
from pathlib import Path
from typing import Any

from vitral.base.errors import StoreError
from vitral.base.files import sha256, write_file

KEPT = "lab.json"
MINE = "mine.py"
WINDOW = '''"""A trained Vision Transformer with your parts in it: vitral explain mine.py:mine photo.png"""

from pathlib import Path

from vitral.lab.transplant import with_yours


def mine():
    return with_yours(Path(__file__).parent)
'''


def kept(folder: Path) -> dict[str, Any]:
    """Raises `StoreError` if the file is there and not as the lab writes it."""
    path = folder / KEPT
    if not path.is_file():
        return {"passed": {}, "hints": {}}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(found.get(key), dict) for key in ("passed", "hints")):
            return found
    except ValueError:
        pass
    raise StoreError(f"{path} is not as the lab writes it. Remove it to begin again; your files are not touched.")


def passed(folder: Path) -> list[str]:
    """Names of the stations that have passed."""
    return list(kept(folder)["passed"])


def note_passed(folder: Path, name: str) -> None:
    """Remember it, by the hash of the file; and write what `vitral explain` opens."""
    found = kept(folder)
    found["passed"][name] = sha256(folder / f"{name}.py")
    write_file(folder / KEPT, json.dumps(found, indent=1) + "\n")
    if not (folder / MINE).exists():
        write_file(folder / MINE, WINDOW)


def note_hint(folder: Path, name: str, most: int) -> int:
    """Which hint comes next, from 0 on; it is remembered as read."""
    found = kept(folder)
    number = min(found["hints"].get(name, 0), most - 1)
    found["hints"][name] = number + 1
    write_file(folder / KEPT, json.dumps(found, indent=1) + "\n")
    return number


def since(folder: Path, name: str) -> str:
    """What there is of a station: passed, changed since, begun, or nothing."""
    file, known = folder / f"{name}.py", kept(folder)["passed"].get(name)
    if not file.is_file():
        return ""
    if known is None:
        return "begun"
    return "passed" if sha256(file) == known else "changed since it passed"
