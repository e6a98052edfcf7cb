"""The commands and the code of the guide on judging a model, on a run that is not always right."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from shell import paint

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "judge-a-model.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
(CODE,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def desk(vitral, quick, tmp_path):
    paint(tmp_path / "photos", {"dark": 100, "light": 108}, count=400)
    paint(tmp_path / "others", {"dark": 100, "light": 108}, count=5, seed=1)
    words = ("--data", "photos", "--model", "quick.py:Quick", "--img-size", 8, "--batch-size", 8, "--epochs", 8)
    vitral("train", *words, "--seed", 3, "--out", "runs/photos-1").done()
    return tmp_path


def test_the_commands_and_the_code_work(vitral, desk, capfd):
    for command in COMMANDS:
        vitral(*shlex.split(command)[1:]).done()
    assert (desk / "confusion-test.csv").read_bytes() == (desk / "runs" / "photos-1" / "confusion.csv").read_bytes()
    assert len((desk / "others.csv").read_text().splitlines()) == 11 and np.load(desk / "others.npy").shape == (10, 16)
    exec(compile(CODE, "page", "exec"), {})
    assert "(10, 16) the input of the head, 'head' (16 to 2)" in capfd.readouterr().out


def test_the_numbers_of_the_page_are_those_of_the_code():
    from vitral.base import f1_thresholds, likely_mislabels, temperature
    from vitral.base.intervals import interval

    assert f"fewer than {temperature.FEWEST} validation images" in PAGE
    assert f"fewer than {temperature.FEWEST_WRONG} wrong answers" in PAGE
    assert f"class that fewer than {f1_thresholds.FEWEST_POSITIVE} of them have" in PAGE
    assert f"class with fewer than {likely_mislabels.FEWEST} images is not suggested" in PAGE.replace("\n", " ")
    for images, wanted in ((35, 0.9), (73, 0.95)):
        assert interval(1.0, images)[0] >= wanted > interval(1.0, images - 1)[0]
