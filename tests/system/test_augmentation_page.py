"""The commands and the code of the guide on augmentation, as they stand, and that it names every augmentation."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from shell import paint, tree
from vitral.base.lookup import names
from vitral.data.operations.policy import WIDE

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "augment-images.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def test_every_command_works_in_order(vitral, tmp_path):
    paint(tmp_path / "photos", {"dark": 60, "light": 190}, count=12)
    assert len(COMMANDS) == 6
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "vitral"
        small = ["--model", "vit_nano_patch4_32", "--img-size", "16"] if words[0] == "train" else []
        vitral(*words, *small).done()
    made = tree(tmp_path)
    assert sum(path.startswith("photos.augmented") for path in made) == 4
    assert {"runs/photos-1/report.html", "runs/photos-2/report.html"} <= set(made)


def test_the_code_runs(isolated, tmp_path):
    (code,) = CODE
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=isolated, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["tensor([100, 200], dtype=torch.uint8)", "torch.Size([4, 3, 8, 8])"]


def test_it_names_every_augmentation_and_every_way_to_mix():
    rows = re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row)} == set(names("data.augmentation"))
    assert all(f"`{name}`" in PAGE for name in names("data.mixing"))
    assert f"out of {len(WIDE)} |" in PAGE and f"All {len(WIDE)} operations" in PAGE
