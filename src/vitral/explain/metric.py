"""What a metric is: a function of relevance maps and of the case that they explain, with one number per image.

A file in `explain/metrics` defines one, under its own name:

    @metric(better="higher", needs="masks")
    def share_on_object(maps, case):
        "The share of the map's positive values on the object; NaN for a constant map, which must win nothing."
        positive = maps.clip(min=0)
        on_object = (positive * patch_shares(case.masks, maps.shape[1:])).sum(axis=(1, 2))
        with np.errstate(invalid="ignore"):  # a map that is nowhere positive gives NaN too
            return np.where(is_constant(maps), np.nan, on_object / positive.sum(axis=(1, 2)))

Axes:  b images   gy gx rows, columns of patches   y x pixels   s sums
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from vitral.base.errors import ShapeError, UsageError
from vitral.data.dataset import Split
from vitral.recording.forward import logits_of

ROUNDING = 1e-5  # of a map's largest value: smaller differences are rounding in single precision
INSIDE = 0.25  # of a patch's pixels: a patch with at least this share of the object is on it


Needs = Literal["nothing", "masks", "scene"]
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Scene:
    """What synthetic images were drawn from, so that they can be drawn again, and how to prepare pixels."""

    split: Split
    prepare: Callable[[UInt8[np.ndarray, "b y x 3"]], Tensor]


@dataclass(frozen=True)
class Case:
    """What maps explain.

    model, images, classes   the model, the images as it takes them, and the class explained for each, an array
    known_masks              what is right to look at, where that is known
    explain                  makes the maps again, for another model, other images or classes (a list)
    others                   the maps of the other methods, by name
    known_scene              where images are synthetic, of several objects, and can be drawn again
    """

    model: nn.Module
    images: Float[Tensor, "b c y x"]
    classes: Int[np.ndarray, " b"]
    known_masks: Bool[np.ndarray, "b y x"] | None
    explain: Callable[[nn.Module, Tensor, list[int]], Float[np.ndarray, "b gy gx"]]
    others: Mapping[str, Float[np.ndarray, "b gy gx"]] = field(default_factory=dict)
    known_scene: Scene | None = None

    @property
    def masks(self) -> Bool[np.ndarray, "b y x"]:
        """Raises `UsageError` where the data has none."""
        if self.known_masks is None:
            raise UsageError(
                "This metric needs masks of the object that determines the class, and the data has none. Choose shapes "
                "or cued."
            )
        check_masks(self.known_masks, self.images)
        return self.known_masks

    @property
    def scene(self) -> Scene:
        """Raises `UsageError` where the data cannot be drawn again object by object."""
        if self.known_scene is None:
            raise UsageError(
                "This metric redraws images without one of their objects; only the data set `cued` supports that."
            )
        return self.known_scene


def offers(split: Split) -> tuple[Needs, ...]:
    """Which of the needs of metrics a split can meet."""
    masks: tuple[Needs, ...] = ("masks",) if split.masks is not None else ()
    return "nothing", *masks, *(("scene",) if "each class" in split.factors else ())


Pool = Callable[[Float[np.ndarray, "b *s"]], float]


def mean(values: Float[np.ndarray, " b"]) -> float:
    """The mean over the images that have a value; not a number if none has."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


@dataclass(frozen=True)
class Metric:
    """A metric: `metric(maps, case)` gives one number per image, or several that `pool` combines over images.

    better   "higher", "lower", or "neither"
    needs    what the data must have: "nothing", "masks" or a "scene" that can be drawn again
    pool     how the values of all images make one number; by default their mean
    """

    function: Callable[[Float[np.ndarray, "b gy gx"], Case], Float[np.ndarray, "b *s"]]
    better: Better
    needs: Needs
    pool: Pool

    def __post_init__(self) -> None:
        for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):  # help() shows the function's own
            object.__setattr__(self, attribute, getattr(self.function, attribute))
        object.__setattr__(self, "__wrapped__", self.function)

    def __call__(self, maps: Float[np.ndarray, "b gy gx"], case: Case) -> Float[np.ndarray, "b *s"]:
        return self.function(maps, case)


def metric(better: Better, needs: Needs = "nothing", pool: Pool = mean) -> Callable[[Callable[..., Any]], Metric]:
    """Declare a metric. Raises `UsageError` for another word than `Metric` lists."""
    for word, value, known in (("better", better, get_args(Better)), ("needs", needs, get_args(Needs))):
        if value not in known:
            raise UsageError(
                f'@metric: {word} must be one of {", ".join(known)}, as in {word}="{known[0]}"; found {value!r}.'
            )
    return lambda function: Metric(function, better, needs, pool)


def patch_shares(masks: Bool[np.ndarray, "b y x"], grid: tuple[int, int]) -> Float[np.ndarray, "b gy gx"]:
    """The share of each patch that the mask covers. Raises `ShapeError` for masks of fewer pixels than patches."""
    return patch_means(masks.astype(np.float64), grid)


def patch_means(values: Float[np.ndarray, "b y x"], grid: tuple[int, int]) -> Float[np.ndarray, "b gy gx"]:
    """The mean over each patch. Raises `ShapeError` for fewer pixels than patches."""
    rows, columns = (pixel_shares(pixels, patches) for pixels, patches in zip(values.shape[1:], grid))
    return rows @ values @ columns.T


def pixel_shares(pixels: int, patches: int) -> Float[np.ndarray, "g y"]:
    """How much each pixel of a side counts for each patch: its even share of the patch nearest to it, else nothing.

    Where pixels do not divide into patches, as in some CNNs, some patches have a pixel more than others.
    """
    if pixels < patches:
        raise ShapeError(f"{pixels} pixels cannot be divided into {patches} patches: give larger masks.")
    own = (2 * np.arange(pixels) + 1) * patches // (2 * pixels) == np.arange(patches)[:, None]
    return own / own.sum(axis=1, keepdims=True)


def patches_on_object(masks: Bool[np.ndarray, "b y x"], grid: tuple[int, int]) -> Bool[np.ndarray, "b g"]:
    """Which patches are on the object: those covered by it to a quarter, or the most covered one if none is."""
    share = patch_shares(masks, grid).reshape(len(masks), -1)
    return (share >= INSIDE) | ((share == share.max(axis=1, keepdims=True)) & (share > 0))


def flattened(values: Float[np.ndarray, "b *places"]) -> Float[np.ndarray, "b g"]:
    return values.reshape(len(values), -1).astype(np.float64)


def is_constant(values: Float[np.ndarray, "b *places"]) -> Bool[np.ndarray, " b"]:
    """Which maps are constant, up to rounding in single precision, so that they rank no patch."""
    return np.ptp(flattened(values), axis=1) <= ROUNDING * np.abs(flattened(values)).max(axis=1)


def check_masks(masks: object, images: Tensor) -> None:
    """Raise `ShapeError` for masks that are not one per image, of its size, `UsageError` for what is not bool."""
    wanted = (len(images), *images.shape[-2:])
    if getattr(masks, "shape", None) != wanted:
        found = getattr(masks, "shape", type(masks).__name__)
        raise ShapeError(
            f"Masks have shape {found}, but the images have shape {tuple(images.shape)}: pass one mask per image, "
            f"with its height and width, {wanted}."
        )
    if not isinstance(masks, np.ndarray) or masks.dtype != bool:
        raise UsageError(
            f"Masks have type {getattr(masks, 'dtype', type(masks).__name__)}: pass a NumPy array of bool that is True "
            "on the object. If yours holds numbers that are 0 off the object, pass masks > 0."
        )


def ranks(values: Float[np.ndarray, "b gy gx"]) -> Float[np.ndarray, "b g"]:
    """From 1 for the lowest patch of each map; equal ones share the mean of their ranks."""
    rows = flattened(values)
    ends = [[np.searchsorted(np.sort(row), row, side) for side in ("left", "right")] for row in rows]
    return np.array([(left + right + 1) / 2 for left, right in ends])


def rank_correlation(one: Float[np.ndarray, "b gy gx"], other: Float[np.ndarray, "b gy gx"]) -> Float[np.ndarray, " b"]:
    """Spearman's, image by image; not a number where a map is constant."""
    centred = [ranks(values) - ranks(values).mean(axis=1, keepdims=True) for values in (one, other)]
    lengths = [np.linalg.norm(own, axis=1) for own in centred]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (centred[0] * centred[1]).sum(axis=1) / (lengths[0] * lengths[1])
    return np.where(is_constant(one) | is_constant(other), np.nan, found)


@torch.no_grad()
def class_probabilities(model: nn.Module, images: Tensor, classes: Int[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
    """The probability of each image's class."""
    logits = logits_of(model, images)
    chosen = torch.as_tensor(classes, device=logits.device)[:, None]
    return logits.softmax(dim=1).gather(1, chosen)[:, 0].double().cpu().numpy()
