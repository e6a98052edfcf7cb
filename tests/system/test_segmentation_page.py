"""The commands of the guide on segmentation, at small size, on the files that it mentions."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitral.data.spec import find_data

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "segment-images.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]
SMALL = "scenes:n=48,held_out=20,size=32"
SETTINGS = ["--epochs", "1", "--batch-size", "16"]  # what a command sets itself comes later and wins


@pytest.fixture
def desk(trained, tmp_path):
    """A run of shapes, a photo, and a folder of images with masks."""
    trained.copy(tmp_path / "runs" / "shapes-1")
    scenes = find_data(SMALL).train
    Image.fromarray(scenes.pixels[0]).resize((60, 40)).save(tmp_path / "photo.jpg")
    for kind in ("images", "masks"):
        (tmp_path / "field" / kind).mkdir(parents=True)
    for number, (image, mask) in enumerate(zip(scenes.pixels[:16], scenes.labels[:16])):
        Image.fromarray(image).save(tmp_path / "field" / "images" / f"{number}.jpg")
        Image.fromarray(mask).save(tmp_path / "field" / "masks" / f"{number}.png")
    (tmp_path / "field" / "classes.txt").write_text("\n".join(find_data(SMALL).classes))
    return tmp_path


def small(words):
    """The same command on smaller scenes, with few steps; and with few random orders."""
    words = [SMALL if word == "scenes" else word for word in words]
    if words[0] == "train":
        words += SETTINGS + (["--img-size", "32"] if "field" in words else [])
    return words + (["--orders", "0"] if words[0] == "explain" else [])


def test_every_command_works_in_order(vitral, desk):
    assert len(COMMANDS) >= 10
    for command in COMMANDS:
        program, *words = shlex.split(command)
        assert program == "vitral"
        vitral(*small(words)).done()
    reports = sorted(path.parent.name for path in (desk / "runs").glob("*/report.html"))
    assert len(reports) >= 6
    mask = np.array(Image.open(desk / "masks" / "photo.mask.png"))
    assert mask.shape == (40, 60) and (desk / "masks" / "photo.overlay.png").is_file()
    assert list((desk / "explained").glob("photo.region*.png"))
