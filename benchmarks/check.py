"""`vitral data shortcuts shapes`: does the set ask for more than its parts?"""

import tempfile
from pathlib import Path

from benchmarks.command import vitral


def run() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as home:
        return {
            "command": "vitral data shortcuts shapes",
            "findings": vitral("data", "shortcuts", "shapes", "--out", str(Path(home) / "sheet.png"))["shortcuts"],
        }
