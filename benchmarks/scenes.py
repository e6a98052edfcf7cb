"""Segmentation of `scenes` at 128 px, from scratch: our models, and floors that see no shape. IoU without background.

The floors: gradient-boosted trees on the colours of a pixel, and patches of 8 px of which none sees another. Each run
of a model is `vitral train` as a user would start it. The default and the ResNet have 3 seeds, the others one.
"""

import tempfile
from pathlib import Path
from statistics import mean

import numpy as np

from benchmarks.command import vitral
from vitral.base.answers.segmentation import MaskTally
from vitral.data.spec import find_data

DEFAULT = "vit, detail"
RESNET = "resnet, pyramid"
SEEDS = (0, 1, 2)  # of these two
MODELS: dict[str, dict[str, str]] = {
    DEFAULT: {},
    "vit, linear": {"decoder": "linear"},
    RESNET: {"model": "resnet_nano_128", "epochs": "8"},  # about as long as the default takes
    "patches alone": {"model": "iso_nothing_nano_patch8_48", "decoder": "linear", "epochs": "2"},
}
PIXELS = 40_000  # of the training scenes, for the trees
SCENES = 100  # of the test split that the trees are judged on


def train(settings: dict[str, str], seed: int) -> dict[str, object]:
    """One run; its figures on the test scenes, and how long it trained."""
    options = [word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", value)]
    with tempfile.TemporaryDirectory() as home:
        out = str(Path(home) / "run")
        found = vitral("train", "--data", "scenes", *options, "--seed", str(seed), "--out", out)
    own = {key: found[key] for key in ("seconds", "steps", "n")}
    figures = found["figures"]
    return own | {key: figures[key] for key in ("mIoU", "interval", "mIoU_with_background", "boundary_F")}


def colours_alone() -> float:
    """The mean IoU of trees that see the colour of one pixel."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    data, rng = find_data("scenes:n=1000"), np.random.default_rng(0)
    pixels, labels = data.train.pixels.reshape(-1, 3), data.train.labels.ravel()
    chosen = rng.choice(len(labels), PIXELS, replace=False)
    trees = HistGradientBoostingClassifier(random_state=0).fit(pixels[chosen], labels[chosen])
    test = data.test.only(np.arange(SCENES))
    chances = trees.predict_proba(test.pixels.reshape(-1, 3)).reshape(*test.labels.shape, -1)
    return tallied(chances, test.labels, data.classes)


def tallied(chances: np.ndarray, labels: np.ndarray, classes: tuple[str, ...]) -> float:
    """The mean IoU of probabilities (n, y, x, k)."""
    import torch

    tally = MaskTally(classes)
    tally.add(torch.from_numpy(np.log(np.maximum(chances, 1e-9)).transpose(0, 3, 1, 2).copy()).float(), labels)
    return tally.figures("").value


def run(names: tuple[str, ...] = tuple(MODELS), seeds: tuple[int, ...] = SEEDS) -> dict[str, object]:
    floor = colours_alone()
    print(f"   colour of a pixel: mean IoU {floor:.1%}", flush=True)
    found: dict[str, object] = {"colour of a pixel": {"mIoU": floor, "n": SCENES}}
    for name in names:
        runs = []
        for seed in seeds if name in (DEFAULT, RESNET) else seeds[:1]:
            runs.append({"seed": seed, **train(MODELS[name], seed)})
            print(f"   {name}, seed {seed}: mean IoU {runs[-1]['mIoU']:.1%} in {runs[-1]['seconds']:.0f} s", flush=True)
        found[name] = {"settings": MODELS[name], "mIoU": mean(float(str(one["mIoU"])) for one in runs), "runs": runs}
    return {"command": "vitral train --data scenes --seed S", "threads": 2, "models": found}
