"""How far to trust a map, in plain words: is it better than chance at finding what the answer depends on, and how much
of it lies on outlier tokens?

Axes:  b images   gy gx rows, columns of patches
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.modes import evaluating
from vitral.explain.features import patches_of, tokens_and_maps
from vitral.explain.maps import NO_BETTER, Maps
from vitral.explain.measure import Case
from vitral.explain.metrics.deletion import FILL, area
from vitral.explain.outlying import outlying
from vitral.explain.subject import logits_of

ORDERS = 20  # random orders that a map's own is held against: noise is below them all once in 21 times
STEPS = 12  # in which patches are covered
LEAST = 0.01  # of probability by which a map must be below the best of them


@dataclass(frozen=True)
class Trust:
    """`area` is `deletion`'s, `by_chance` that of each random order, `on_outliers` the share of the map on outliers."""

    area: float
    by_chance: tuple[float, ...]
    on_outliers: float

    @property
    def better_than_chance(self) -> bool:
        """Below every random order, by `LEAST` at least."""
        return bool(self.area < min(self.by_chance) - LEAST)

    @property
    def sentence(self) -> str:
        """What to tell the map's reader."""
        if np.isnan(self.area):
            return "The map ranks nothing, so it cannot be tested."
        verdict = (
            "it finds what the answer depends on better than chance"
            if self.better_than_chance
            else f"it is {NO_BETTER} at finding what the answer depends on"
        )
        outlying = (
            f" {self.on_outliers:.0%} of it lies on patches of unusually large norm, which may hold something else "
            "than their place in the image."
            if self.on_outliers > 0.005
            else ""
        )
        return (
            f"Tested: as its highest patches are covered first, the answer's probability averages {self.area:.0%}; in "
            f"{len(self.by_chance)} random orders {min(self.by_chance):.0%} to {max(self.by_chance):.0%}. So {verdict}."
            f"{outlying}"
        )


@torch.no_grad()
def trust(model: nn.Module, images: Float[Tensor, "b c y x"], maps: Maps) -> list[Trust]:
    """One `Trust` an image, of `maps.merged`, for the class explained or the model's own answer.

    Costs up to `STEPS` + 1 forward passes an image, for the map and for each of `ORDERS` random orders.
    """
    values = maps.merged
    with evaluating(model):
        classes = np.array(maps.targets) if maps.targets else logits_of(model, images).argmax(dim=1).cpu().numpy()
        case = Case(model, images, classes, None, lambda model, images, classes: values)
        empty = torch.full_like(images, FILL)

        def left(order: np.ndarray) -> np.ndarray:
            return area(order, case, lambda covered: torch.where(covered, empty, images), STEPS)

        own, draws = left(values), np.random.default_rng(0)
        chance = np.stack([left(draws.random(values.shape)) for _ in range(ORDERS)])
        share = on_outliers(model, images, values)
    return [Trust(float(a), tuple(map(float, c)), float(s)) for a, c, s in zip(own, chance.T, share)]


def tested(model: nn.Module, images: Float[Tensor, "b c y x"], maps: Maps) -> Maps:
    """The same maps, whose captions say how far to trust each; as costly as `trust`."""
    return replace(maps, tested=tuple(one.sentence for one in trust(model, images, maps)))


def on_outliers(model: nn.Module, images: Tensor, values: Float[np.ndarray, "b gy gx"]) -> Float[np.ndarray, " b"]:
    """The share of the positive map on outlier tokens that leave the last block; none in a model without tokens."""
    _, places, seen = tokens_and_maps(model, images)
    _, tokens, grid, prefix = places[-1]
    if seen is None or grid != values.shape[1:]:
        return np.zeros(len(values))
    above = outlying(patches_of(tokens, grid, prefix, seen).flatten(2).mT).cpu().numpy()
    positive = values.clip(min=0).reshape(len(values), -1)
    return (positive * above).sum(axis=1) / positive.sum(axis=1).clip(min=1e-30)
