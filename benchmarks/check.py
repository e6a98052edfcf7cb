"""`vitral data shapes --check`: does the set ask for more than its parts?"""

import tempfile
from pathlib import Path

from benchmarks.command import vitral


def run() -> dict[str, object]:
    with tempfile.TemporaryDirectory() as home:
        return {
            "command": "vitral data shapes --check",
            "findings": vitral("data", "shapes", "--check", "--out", str(Path(home) / "sheet.png"))["check"],
        }
