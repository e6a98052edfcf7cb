"""The guide to adding a study is followed to the letter, in a copy of the package."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import vitral

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "how-to" / "add-a-study.md").read_text(encoding="utf-8")


def test_a_new_study_is_one_file(tmp_path, isolated):
    blocks = re.findall(r"```(\w*)\n(.*?)```", GUIDE, re.DOTALL)
    (code,) = (text for language, text in blocks if language == "python")
    (place,) = re.findall(r"Save it as\s+`src/(vitral/studies/claims/\w+\.py)`", GUIDE)
    commands = [line for language, text in blocks if not language for line in text.splitlines()]
    assert commands[:2] == ["vitral study list", "vitral study run needs_positions --preset smoke"]

    shutil.copytree(Path(vitral.__file__).parent, tmp_path / "vitral", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / place).write_text(code)
    environment = isolated | {"PYTHONPATH": os.pathsep.join((str(tmp_path), isolated["PYTHONPATH"]))}

    def typed(command):
        words = [sys.executable, "-m", *command.split()]
        return subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    listed = typed(commands[0])
    assert listed.returncode == 0 and "needs_positions" in listed.stdout, listed.stderr
    ran = typed(commands[1])
    assert ran.returncode == 0, ran.stderr
    folder = tmp_path / "runs" / "studies" / "smoke"
    assert "Needs positions" in (folder / "needs_positions.html").read_text()
    runs = json.loads((folder / "needs_positions.json").read_text())["runs"]
    assert len(runs) == 4 and {run["status"] for run in runs} == {"done"}
    words = ("pytest", "-q", ROOT / "tests" / "contract" / "test_studies.py", "-k", "needs_positions")
    held = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=tmp_path,
        env=environment | {"PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT / "tests")))},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert held.returncode == 0, held.stdout
