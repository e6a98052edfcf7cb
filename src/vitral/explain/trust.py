"""How far to trust one image's map, in plain words: does it find what the probability of a class depends on better than
chance does, and how much of it lies on outlier tokens?

Patches are covered one after another, the map's highest first, as `deletion` does, and the probability of the class is
averaged on the way; then the same in random orders. With n of them, of which k do at least as well, p = (1 + k) /
(1 + n) (Phipson & Smyth 2010, "Permutation P-values Should Never Be Zero"). One image can be too little to tell: a map
that does not pass is not shown to know nothing.

Axes:  b images   k classes   o orders   g patches   gy gx rows, columns of patches
"""

import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from vitral.base.errors import ShapeError, UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.explain.feature_maps import patches_of, tokens_and_maps
from vitral.explain.maps import Maps
from vitral.explain.metric import constant
from vitral.explain.metrics.deletion import FILL, STEPS
from vitral.explain.one_map import class_name
from vitral.explain.outlier_tokens import outlying
from vitral.recording.forward import logits_of
from vitral.recording.roles import Grid

SMALL = 64  # patches: on larger grids models are slow, so that there are fewer orders and steps
ORDERS, FEWER_ORDERS = 100, 20  # random orders that a map's own is held against
FEWER_STEPS = 24
RARE = 0.05  # of maps of noise are said to be better than chance, and as many to be worse
LEAST = 0.01  # of probability: what is there, and by how much the random orders differ, for anything to be told
ROUNDING = 1e-6  # of probability: areas that differ by less are tied
PIXELS = 2**21  # covered at a time

Verdict = Literal["better than chance", "worse than chance", "one image cannot tell", "cannot be tested"]


@dataclass(frozen=True)
class Trust:
    """`area` is `deletion`'s, `by_chance` that of each random order, `on_outliers` the share of the map on outliers.

    `label` is the class whose probability it is, `which` the one map of several that was tested; `untested` is why
    nothing could be, in a sentence.
    """

    area: float
    by_chance: tuple[float, ...]
    on_outliers: float
    label: str
    which: str = ""
    untested: str = ""

    @property
    def as_good(self) -> int:
        """How many random orders do as well as the map or better, ties counted."""
        return sum(area <= self.area + ROUNDING for area in self.by_chance)

    @property
    def as_bad(self) -> int:
        """How many random orders do as badly as the map or worse, ties counted."""
        return sum(area >= self.area - ROUNDING for area in self.by_chance)

    @property
    def p(self) -> float:
        """How often a map of noise does as well; not a number where nothing could be tested."""
        return float("nan") if self.untested else (1 + self.as_good) / (1 + len(self.by_chance))

    @property
    def verdict(self) -> Verdict:
        """What one image tells: at most `RARE` of maps of noise are better, and as many worse."""
        if self.untested:
            return "cannot be tested"
        if self.p <= RARE:
            return "better than chance"
        worse = (1 + self.as_bad) / (1 + len(self.by_chance)) <= RARE
        return "worse than chance" if worse else "one image cannot tell"

    @property
    def better_than_chance(self) -> bool:
        return self.verdict == "better than chance"

    @property
    def sentence(self) -> str:
        """What to tell the map's reader."""
        tested = self.untested or (
            f"Tested{self.which and f' ({self.which})'}: as its highest patches are covered first, the probability of "
            f"{self.label} averages {self.area:.1%}; in {len(self.by_chance)} random orders {min(self.by_chance):.1%} "
            f"to {max(self.by_chance):.1%}, {self.conclusion}"
        )
        outlying = (
            f" {self.on_outliers:.0%} of it lies on patches of unusually large norm, which may hold something else "
            "than their place in the image."
            if self.on_outliers > 0.005
            else ""
        )
        return tested + outlying

    @property
    def conclusion(self) -> str:
        what = f"what {self.label} depends on"
        low = f"as low or lower in {self.as_good} of them (p = {self.p:.2f})"
        match self.verdict:
            case "better than chance":
                return f"{low}. So it finds {what} better than chance."
            case "worse than chance":
                return f"as high or higher in {self.as_bad} of them. So it finds {what} worse than chance."
            case _:
                return f"{low}. This one image cannot tell whether it finds {what}."


class Trials:
    """What a model answers while the patches of some images are covered, in the order of a map and in random ones.

    The random orders are drawn from the image itself, so that it has the same in any batch, and they are gone through
    once for all maps and classes. Costs `ORDERS` times up to `STEPS` + 1 forward passes an image, on grids of more than
    `SMALL` patches `FEWER_ORDERS` times `FEWER_STEPS` + 1; then one order more for each map.
    """

    def __init__(self, model: nn.Module, images: Float[Tensor, "b c y x"]):
        self.model, self.images = model, images
        self.chance: dict[tuple[int, Grid], Float[np.ndarray, "o k"]] = {}
        with evaluating(model):
            self.chances = probabilities(model, images)
            self.outlying = outlying_patches(model, images)

    def trust(self, maps: Maps) -> list[Trust]:
        """One `Trust` an image, of `maps.merged`, for the class explained or the model's own answer.

        Raises `ShapeError` for maps of another number of images.
        """
        if len(maps.values) != len(self.images):
            raise ShapeError(f"The maps are of {len(maps.values)} images, and {len(self.images)} were given.")
        with evaluating(self.model):
            return [self.of_one(maps, image) for image in range(len(self.images))]

    def of_one(self, maps: Maps, image: int) -> Trust:
        values = maps.merged[image]
        share = on_outliers(self.outlying, image, values)
        if self.chances is None:
            return untested(share, "", "The model scores no classes, so the map cannot be tested against an answer.")
        known = self.chances[image]
        index = maps.targets[image] if maps.targets else int(known.argmax())
        label, unit = class_name(self.model, index), float(known[index])
        if not maps.of_answer:
            return untested(share, label, f"Not tested: what {maps.reader} reads is no claim about the answer.")
        if constant(values[None])[0]:
            return untested(share, label, "The map ranks nothing, so it cannot be tested.")
        if unit < LEAST:
            return untested(
                share,
                label,
                f"Cannot be tested on this image: the probability of {label} is {unit:.1%}, which covering patches can "
                "hardly lower.",
            )
        chance = self.by_chance(image, maps.grid)[:, index]
        if np.ptp(chance) < LEAST:
            return untested(
                share,
                label,
                f"Cannot be tested on this image: whichever patches are covered first, the probability of {label} "
                f"averages {chance.mean():.1%}.",
            )
        noise = drawn(self.images[image], 1, values.size)[0]
        own = self.areas(image, np.lexsort((noise, -values.ravel())), maps.grid)[index]
        return Trust(float(own), tuple(map(float, chance)), share, label, maps.which)

    def by_chance(self, image: int, grid: Grid) -> Float[np.ndarray, "o k"]:
        """The areas of the random orders, gone through the first time they are asked for."""
        if (image, grid) not in self.chance:
            patches = grid[0] * grid[1]
            noise = drawn(self.images[image], 1 + (ORDERS if patches <= SMALL else FEWER_ORDERS), patches)[1:]
            self.chance[image, grid] = np.stack([self.areas(image, order, grid) for order in noise.argsort(axis=1)])
        return self.chance[image, grid]

    def areas(self, image: int, order: Int[np.ndarray, " g"], grid: Grid) -> Float[np.ndarray, " k"]:
        """The area under each class's probability over the share of patches covered in an order, from none to all."""
        patches = len(order)
        steps = min(patches, STEPS if patches <= SMALL else FEWER_STEPS)
        counts = np.array([round(patches * step / steps) for step in range(steps + 1)])
        covered = torch.from_numpy((order.argsort() < counts[:, None]).astype(np.float32))
        covered = rearrange(covered, "s (gy gx) -> s 1 gy gx", gy=grid[0]).to(self.images.device)
        height, width = self.images.shape[-2:]
        curve = []
        for some in covered.split(max(1, PIXELS // (height * width))):
            hidden = F.interpolate(some, size=(height, width), mode="nearest-exact") > 0.5
            found = probabilities(self.model, torch.where(hidden, FILL, self.images[image]))
            assert found is not None
            curve.append(found)
        return np.trapezoid(np.concatenate(curve), counts / patches, axis=0)


def trust(model: nn.Module, images: Float[Tensor, "b c y x"], maps: Maps) -> list[Trust]:
    """One `Trust` an image, of `maps.merged`, for the class explained or the model's own answer.

    Of several maps of the same images, `Trials(model, images).trust` does it without going through the random orders
    again. Costs what `Trials` says. Raises `ShapeError` for maps of another number of images.
    """
    return Trials(model, images).trust(maps)


def tested(model: nn.Module, images: Float[Tensor, "b c y x"], maps: Maps) -> Maps:
    """The same maps, whose captions say how far to trust each; as costly as `trust`."""
    return with_trust(maps, trust(model, images, maps))


def with_trust(maps: Maps, found: list[Trust]) -> Maps:
    """The same maps, with what was found of each image's."""
    sentences = tuple(one.sentence for one in found)
    return replace(maps, tested=sentences, verdicts=tuple(str(one.verdict) for one in found))


def untested(share: float, label: str, why: str) -> Trust:
    return Trust(float("nan"), (), share, label, untested=why)


@torch.no_grad()
def probabilities(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[np.ndarray, "b k"] | None:
    """Of every class; None if the model scores no classes."""
    try:
        return logits_of(model, images).double().softmax(dim=1).cpu().numpy()
    except UsageError:
        return None


def drawn(image: Float[Tensor, "c y x"], count: int, patches: int) -> Float[np.ndarray, "o g"]:
    """Noise for so many orders, drawn from the image."""
    content = np.ascontiguousarray(image.detach().cpu().float().numpy()).tobytes()
    digest = hashlib.sha256(b"random orders" + content).digest()
    return np.random.default_rng([*digest[:8]]).random((count, patches))


@torch.no_grad()
def outlying_patches(model: nn.Module, images: Tensor) -> Bool[np.ndarray, "b gy gx"] | None:
    """Which tokens that leave the last block are outliers; None in a model without tokens."""
    try:
        _, places, seen = tokens_and_maps(model, images)
    except WatchError:
        return None
    if seen is None or not places:
        return None
    _, tokens, grid, prefix = places[-1]
    above = outlying(patches_of(tokens, grid, prefix, seen).flatten(2).mT)
    return rearrange(above, "b (gy gx) -> b gy gx", gy=grid[0]).cpu().numpy()


def on_outliers(above: Bool[np.ndarray, "b gy gx"] | None, image: int, values: Float[np.ndarray, "gy gx"]) -> float:
    """The share of the positive map on outlier tokens; none where these have another grid, or there are no tokens."""
    if above is None or above[image].shape != values.shape:
        return 0.0
    positive = values.clip(min=0)
    return float((positive * above[image]).sum() / max(positive.sum(), 1e-30))
