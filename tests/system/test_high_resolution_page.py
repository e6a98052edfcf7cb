"""The code of docs/how-to/high-resolution.md runs as it stands."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "high-resolution.md"


def test_code_runs_as_it_stands(isolated, tmp_path):
    code = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    command = [sys.executable, "-c", "\n".join(code)]  # each block imports what it uses
    done = subprocess.run(command, cwd=tmp_path, env=isolated, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert len(printed) >= len(code)
    assert float(next(line for line in printed if "largest difference" in line).split()[-1]) < 1e-5
