"""The progress that is kept in the reader's folder: which stations have passed, and how many hints were read."""

import json
from pathlib import Path
from typing import Any

from vitral.base.errors import StoreError
from vitral.base.files import sha256, write_file

FILE = "lab.json"
MODEL_FILE = "mine.py"
MODEL_CODE = '''"""A trained Vision Transformer with your parts in it: vitral explain mine.py:mine photo.png"""

from pathlib import Path

from vitral.lab.integration import build_model_with_answers


def mine():
    return build_model_with_answers(Path(__file__).parent)
'''


def load_progress(folder: Path) -> dict[str, Any]:
    """Return `passed` (a hash per station) and `hints` (a number per station). Raises `StoreError` if damaged."""
    path = folder / FILE
    if not path.is_file():
        return {"passed": {}, "hints": {}}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and all(isinstance(found.get(key), dict) for key in ("passed", "hints")):
            return found
    except ValueError:
        pass
    raise StoreError(f"{path} is damaged. Remove it to start over; your own files stay as they are.")


def save_progress(folder: Path, progress: dict[str, Any]) -> None:
    write_file(folder / FILE, json.dumps(progress, indent=1) + "\n")


def save_passed(folder: Path, name: str) -> None:
    """Save that a station has passed, with its file's hash; write the file that `vitral explain` opens."""
    progress = load_progress(folder)
    progress["passed"][name] = sha256(folder / f"{name}.py")
    save_progress(folder, progress)
    if not (folder / MODEL_FILE).exists():
        write_file(folder / MODEL_FILE, MODEL_CODE)


def take_hint(folder: Path, name: str, count: int) -> int:
    """Return the index of the next hint of `count`, and save that it was read; after the last comes the last again."""
    progress = load_progress(folder)
    index = min(progress["hints"].get(name, 0), count - 1)
    progress["hints"][name] = index + 1
    save_progress(folder, progress)
    return index


def find_state(folder: Path, name: str) -> str:
    """Return "passed", "changed since it passed", "started", or "" where there is no file yet."""
    file, saved = folder / f"{name}.py", load_progress(folder)["passed"].get(name)
    if not file.is_file():
        return ""
    if saved is None:
        return "started"
    return "passed" if sha256(file) == saved else "changed since it passed"
