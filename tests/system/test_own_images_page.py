"""The tutorial on a folder of photos, from a published format to a table of answers, at small size."""

import csv
import re
import shlex
from pathlib import Path

import pytest
import yaml

from shell import paint
from tiny import tiny_vit
from vitral.base.record import ModelRecord, attach_record
from vitral.weights.convert import write

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "your-own-images.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def desk(tmp_path):
    """Photos in two classes, new ones, and a checkpoint as transformers writes it."""
    paint(tmp_path / "photos", {"dark": 80, "light": 130}, count=150)
    paint(tmp_path / "painted", {"dark": 80, "light": 130}, count=3, seed=1)
    (tmp_path / "new").mkdir()
    for number, image in enumerate(sorted((tmp_path / "painted").glob("*/*"))):
        image.rename(tmp_path / "new" / f"{number}{image.suffix}")
    published = tiny_vit(img_size=(16, 16), patch_size=(4, 4), num_classes=3)
    record = ModelRecord(("cat", "dog", "fish"), published.preprocessing)
    write(attach_record(published, record), tmp_path / "checkpoint", "hf")
    return tmp_path


def small(words):
    """The same command with a fixed number of steps in place of minutes, and without random orders."""
    if words[0] == "train":
        place = words.index("--minutes")
        words = [*words[:place], "--epochs", "3", *words[place + 2 :]]
    return words + (["--orders", "0"] if words[0] == "explain" else [])


def test_every_command_works_in_order(vitral, desk, capfd):
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "vitral"
        answer = vitral(*small(words)).done()
        if words[0] == "train":
            assert "--adapt auto chose" in answer.messages
        if words[0] == "eval":
            accuracy = float(re.search(r"accuracy (\d+\.\d)%", answer.printed)[1])
            assert accuracy > 90
    settings = yaml.safe_load((desk / "runs" / "photos-1" / "config.yaml").read_text())
    assert settings["adapt"] in ("probe", "lora", "full") and settings["weight_decay"] == 0.05
    rows = list(csv.DictReader((desk / "answers.csv").read_text().splitlines()))
    assert len(rows) == 6 and {row["class"] for row in rows} == {"dark", "light"}
    assert list((desk / "explained").iterdir()) and (desk / "photos-check.html").is_file()
    exec(compile(CODE, "page", "exec"), {})
    assert "layers of attention, verified to" in capfd.readouterr().out
