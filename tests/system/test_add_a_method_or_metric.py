"""The guides to adding a method and a metric are followed to the letter, in a copy of the package."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vitral

ROOT = Path(__file__).parents[2]
SOURCE = Path(vitral.__file__).parent


@pytest.fixture
def follow(tmp_path, isolated, trained):
    """A function that saves the code of a guide where the guide says, runs its commands and returns what they print."""
    shutil.copytree(SOURCE, tmp_path / "vitral", ignore=shutil.ignore_patterns("__pycache__"))
    trained.copy(tmp_path / "runs" / "shapes-1")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    paths = (str(tmp_path), isolated["PYTHONPATH"], str(ROOT / "tests"))
    environment = isolated | {"PYTHONPATH": os.pathsep.join(paths), "COLUMNS": "160"}

    def guide(page):
        text = (ROOT / "docs" / "how-to" / page).read_text(encoding="utf-8")
        blocks = re.findall(r"```(\w*)\n(.*?)```", text, re.DOTALL)
        (code,) = (block for language, block in blocks if language == "python")
        (place,) = re.findall(r"Save it as\s+`src/(vitral/explain/\w+/\w+\.py)`", text)
        (tmp_path / place).write_text(code)
        train, *commands = (line for language, block in blocks if not language for line in block.splitlines())
        assert train == "vitral train --data shapes:n=64,size=16 --epochs 2 --batch-size 16"  # the run of `trained`
        return [run(command) for command in commands]

    def run(command):
        words = [str(ROOT / word) if word.startswith("tests/") else word for word in command.split()]
        done = subprocess.run(
            [sys.executable, "-m", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    return guide


def test_a_new_method_is_one_file(follow, tmp_path):
    explained, scored, contract = follow("add-a-method.md")
    figures = [path.name for path in tmp_path.rglob("*.png") if "strongest_head" in path.name]
    assert figures, explained
    assert re.search(r"strongest_head +0\.\d\d", scored), scored
    assert re.search(r"\b1\d passed", contract) and "failed" not in contract, contract


def test_a_new_metric_is_one_file(follow):
    scored, contract = follow("add-a-metric.md")
    assert re.search(r"\bgini\b", scored) and re.search(r"rollout.* 0\.\d\d", scored), scored
    assert re.search(r"\b3 passed", contract), contract
