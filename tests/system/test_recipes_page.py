"""The commands of the guide on recipes, on a few photos."""

import re
import shlex
from pathlib import Path

import yaml

from shell import paint

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "recipes.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_every_command_works_in_order(vitral, tmp_path):
    paint(tmp_path / "photos", {"dark": 80, "light": 130}, count=20)
    for command in COMMANDS:
        if "fashion-mnist" not in command:  # which is a package of Debian's
            vitral(*shlex.split(command)[1:]).done()
    small, tuned = (
        yaml.safe_load((tmp_path / f"runs/{name}/config.yaml").read_text()) for name in ("small-1", "tuned-1")
    )
    assert small["model"] == "resnet_nano_128" and small["ema"] == 0.99 and small["epochs"] == 3
    assert tuned["layer_decay"] == 0.75 and tuned["adapt"] == "full" and tuned["augment"] == "photo"
    assert {path.name for path in (tmp_path / "runs" / "small-1-lr").iterdir()} == {"lr-0.001", "lr-0.004"}


def test_few_images_are_told_of_the_recipe_for_them(vitral, tmp_path):
    paint(tmp_path / "photos", {"dark": 80, "light": 130}, count=10)
    words = ("train", "--data", "photos", "--epochs", "1", "--img-size", "32", "--out")
    said = vitral(*words, "usual").done().messages
    assert "14 training images: few for a ViT that starts from nothing. `--recipe small`" in said
    for number, other in enumerate((("--recipe", "small"), ("--init", "usual"))):
        assert "few for a ViT" not in vitral(*words, str(number), *other).done().messages
