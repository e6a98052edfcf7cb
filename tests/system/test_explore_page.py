"""The code of docs/how-to/explore.md runs as it stands, and its tables name what the page has."""

import re
import subprocess
import sys
from pathlib import Path

from explore_effects import header

import vitral
from tiny import tiny_vit, with_record
from vitral.data.spec import find_data

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "explore.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_code_runs_as_it_stands(isolated, tmp_path):
    code = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    command = [sys.executable, "-c", "\n".join(code)]
    done = subprocess.run(command, cwd=tmp_path, env=isolated, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "page.html" in done.stdout and float(done.stdout.split()[-1]) < 0.05


def test_the_written_form_names_every_key(tmp_path):
    found = vitral.explore(
        with_record(tiny_vit()), find_data("shapes:n=8,size=32").test.pixels[0], out=tmp_path / "a.html"
    )
    payload = header(found.page)
    assert payload["version"] == 1 and "payload, version 1" in TEXT
    image = payload["images"][0]
    layer = image["layers"][0]
    for key in (*payload, *image, *layer, *layer["parts"][0]):
        assert f"`{key}`" in TEXT, key
