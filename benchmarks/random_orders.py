"""How often the test against random orders passes a map of noise, and how often a map that is right.

Simulated: the score of a model is a logistic function of the mean over some patches of its grid; each page has an image
of its own, and so random orders of its own.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from vitral import Maps
from vitral.base.intervals import interval
from vitral.explain.observation import observe
from vitral.explain.trials import Trials
from vitral.explain.trust import Trust, correct_together

GRIDS = ((8, 8), (14, 14))
PAGES, METHODS = 4_000, (1, 2, 3, 4, 5)
POWER_PAGES = 200
# How many patches the score depends on, how steeply, and how far above the noise a right map puts them.
OBJECTS = {"one patch": (1, 6.0, 3.0, 9.0), "4 patches": (4, 6.0, 3.0, 1.5), "20 patches": (20, 8.0, 4.0, 0.7)}


class ScoredPatches(nn.Module):
    """Two classes; the first one's probability rises with the mean over some patches of one pixel each."""

    def __init__(self, grid: tuple[int, int], patches: np.ndarray, gain: float, offset: float):
        super().__init__()
        self.grid, self.num_prefix_tokens, self.patches = grid, 0, torch.from_numpy(patches)
        self.gain, self.offset = nn.Parameter(torch.tensor(gain)), offset

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = self.gain * images.mean(dim=1).flatten(1)[:, self.patches].mean(dim=1) - self.offset
        return torch.stack([score / 2, -score / 2], dim=1)


def run() -> dict[str, object]:
    torch.set_num_threads(1)  # models of one pixel per patch gain nothing from more
    noise = [false_positives(grid) for grid in GRIDS]
    power = [passed(grid, name) for grid in GRIDS for name in OBJECTS]
    return {"noise": noise, "power": power}


def false_positives(grid: tuple[int, int]) -> dict[str, object]:
    """The share of pages with a map of noise that is called better, or worse, than chance, by the number of methods."""
    rng = np.random.default_rng(0)
    better, worse = np.zeros((2, len(METHODS)), int)
    for _ in range(PAGES):
        trials, _ = one_page(grid, "4 patches", rng)
        noise = [as_maps(rng.random(grid)) for _ in range(max(METHODS))]
        tests = [test for (test,) in trials.trust_together(noise)]
        for place, methods in enumerate(METHODS):
            verdicts = [one.verdict for one in together(tests[:methods], trials.orders_for(grid, methods))]
            assert "cannot be tested" not in verdicts and "too few orders" not in verdicts
            better[place] += "better than chance" in verdicts
            worse[place] += "worse than chance" in verdicts
    rows = [
        {
            "methods": methods,
            "orders": trials.orders_for(grid, methods),
            "better": share(better[place], PAGES),
            "worse": share(worse[place], PAGES),
        }
        for place, methods in enumerate(METHODS)
    ]
    for row in rows:
        print(f"   noise, {grid[0]} x {grid[1]}, {row['methods']} methods: {row['better']['share']:.1%}", flush=True)
    return {"grid": grid, "pages": PAGES, "rows": rows}


def passed(grid: tuple[int, int], name: str) -> dict[str, object]:
    """The share of pages on which a map that is right is better than chance, alone and beside maps of noise."""
    rng = np.random.default_rng(1)
    found = np.zeros(len(METHODS), int)
    for _ in range(POWER_PAGES):
        trials, patches = one_page(grid, name, rng)
        values = rng.normal(size=grid)
        values.flat[patches] += OBJECTS[name][3]
        maps = [as_maps(values), *[as_maps(rng.random(grid)) for _ in METHODS[1:]]]
        tests = [test for (test,) in trials.trust_together(maps)]
        for place, methods in enumerate(METHODS):
            found[place] += together(tests[:methods], trials.orders_for(grid, methods))[0].better_than_chance
    rows = [{"methods": each, "better": share(found[place], POWER_PAGES)} for place, each in enumerate(METHODS)]
    shown = ", ".join(f"{row['better']['share']:.0%}" for row in rows)
    print(f"   {name} of {grid[0]} x {grid[1]}, 1 to {len(METHODS)} methods: {shown}", flush=True)
    return {"grid": grid, "object": name, "pages": POWER_PAGES, "rows": rows}


def together(tests: list[Trust], orders: int) -> list[Trust]:
    """The same tests as if there were no others and only so many orders, with which those of more begin."""
    alone = [replace(one, by_chance=one.by_chance[:orders], together=1, corrected=None) for one in tests]
    return correct_together(alone)


def one_page(grid: tuple[int, int], name: str, rng: np.random.Generator) -> tuple[Trials, np.ndarray]:
    """A model that depends on some random patches, ready to be tested on an image of its own, and these patches."""
    size, gain, offset, _ = OBJECTS[name]
    patches = rng.choice(grid[0] * grid[1], size, replace=False)
    image = torch.from_numpy(1 + 0.01 * rng.normal(size=(1, 3, *grid))).float()
    model = ScoredPatches(grid, patches, gain, offset).eval()
    return Trials(observe(model, image, ["feature maps"])), patches


def as_maps(values: np.ndarray) -> Maps:
    """A map that no method made."""
    mass, pixels = np.zeros((1, 1, 1), np.float32), np.zeros((1, *values.shape, 3), np.uint8)
    return Maps("given", "", values[None, None, None].astype(np.float32), mass, pixels, ("all",), (0,), None)


def share(count: int, n: int) -> dict[str, object]:
    low, high = interval(count / n, n)
    return {"share": count / n, "interval": [low, high], "n": n}
