"""The README's Python code runs in a folder with a run and a photo, and its commands are well formed."""

import re
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitral.base.lookup import names
from vitral.cli._parse import parse

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in README.splitlines() if line.startswith("vitral ")]


def test_the_code_runs_and_writes_the_maps(trained, isolated, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    trained.copy(tmp_path / "runs" / "shapes-1")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(tmp_path / "photo.jpg")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=isolated, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "maps.png") as maps:
        assert maps.width > 300


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_can_be_typed(command):
    _, verb, *words = shlex.split(command)
    assert verb in names("cli")
    module = import_module(f"vitral.cli.{verb}")
    parse(module.Options, words, f"vitral {verb}", module.__doc__, getattr(module, "defaults", None))
