"""What a metric of maps is: a function of the maps and of the case they are of, one number an image.

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

ROUNDING = 1e-5  # of a map's largest value: differences below it are those of single precision
INSIDE = 0.25  # of a patch's pixels: a patch with this much of the object belongs to it


Needs = Literal["nothing", "masks", "scene"]
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True)
class Scene:
    """What images were drawn from, so that they can be drawn again otherwise, and how the model takes pixels."""

    split: Split
    prepare: Callable[[UInt8[np.ndarray, "b y x 3"]], Tensor]


@dataclass(frozen=True)
class Case:
    """The model, images and classes that maps explain; masks of what is right to look at, where that is known.

    `explain(model, images, classes)` makes the maps again, for another model, class or image; `others` are the maps
    that the other methods gave, by name; `known_scene` is of images of several objects that can be drawn again.
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
            raise UsageError("This metric needs masks of what is right to look at, and the data has none.")
        check_masks(self.known_masks, self.images)
        return self.known_masks

    @property
    def scene(self) -> Scene:
        """Raises `UsageError` where the data cannot be drawn again object by object."""
        if self.known_scene is None:
            raise UsageError("This metric draws the images again without one of their objects, which only cued can.")
        return self.known_scene


def offers(split: Split) -> tuple[Needs, ...]:
    """What a split has of the things that metrics need."""
    masks: tuple[Needs, ...] = ("masks",) if split.masks is not None else ()
    return "nothing", *masks, *(("scene",) if "each class" in split.factors else ())


Pool = Callable[[Float[np.ndarray, "b *s"]], float]


def mean(values: Float[np.ndarray, " b"]) -> float:
    """Of the images that have a value; not a number if none has."""
    present = values[~np.isnan(values)]
    return float(present.mean()) if len(present) else float("nan")


def measure(better: Better, needs: Needs = "nothing", pool: Pool = mean) -> Callable[[Callable[..., Any]], Any]:
    """Say of a metric whether more is better, what it needs of the data, and how images make one number.

    Raises `UsageError` for another word.
    """
    for word, found, known in (("better", better, get_args(Better)), ("needs", needs, get_args(Needs))):
        if found not in known:
            raise UsageError(
                f'@measure takes {word}= one of {", ".join(known)}, as in {word}="{known[0]}", not {found!r}.'
            )

    def mark(function: Any) -> Any:
        function.better, function.needs, function.pool = better, needs, pool
        return function

    return mark


def share_of(masks: Bool[np.ndarray, "b y x"], grid: tuple[int, int]) -> Float[np.ndarray, "b gy gx"]:
    """The share of each patch that the mask covers. Raises `ShapeError` for masks of fewer pixels than patches."""
    return averaged(masks.astype(np.float64), grid)


def averaged(values: Float[np.ndarray, "b y x"], grid: tuple[int, int]) -> Float[np.ndarray, "b gy gx"]:
    """The mean over each patch. Raises `ShapeError` for fewer pixels than patches."""
    rows, columns = (nearest(pixels, patches) for pixels, patches in zip(values.shape[1:], grid))
    return rows @ values @ columns.T


def nearest(pixels: int, patches: int) -> Float[np.ndarray, "g y"]:
    """How much each pixel of a side counts for each patch: its even share of the patch nearest to it, else nothing.

    Where pixels do not divide into patches, as in some CNNs, some patches have a pixel more than others.
    """
    if pixels < patches:
        raise ShapeError(f"{pixels} pixels cannot be shared out to {patches} patches: give larger masks.")
    own = (2 * np.arange(pixels) + 1) * patches // (2 * pixels) == np.arange(patches)[:, None]
    return own / own.sum(axis=1, keepdims=True)


def belongs(masks: Bool[np.ndarray, "b y x"], grid: tuple[int, int]) -> Bool[np.ndarray, "b g"]:
    """Which patches are of the object: those that it covers by a quarter, or the most covered if none is."""
    share = share_of(masks, grid).reshape(len(masks), -1)
    return (share >= INSIDE) | ((share == share.max(axis=1, keepdims=True)) & (share > 0))


def flat(values: Float[np.ndarray, "b *places"]) -> Float[np.ndarray, "b g"]:
    return values.reshape(len(values), -1).astype(np.float64)


def constant(values: Float[np.ndarray, "b *places"]) -> Bool[np.ndarray, " b"]:
    """Maps that tell nothing apart: what differs is below what single precision rounds."""
    return np.ptp(flat(values), axis=1) <= ROUNDING * np.abs(flat(values)).max(axis=1)


def check_masks(masks: object, images: Tensor) -> None:
    """Raise `ShapeError` for masks that are not one an image, of its size, `UsageError` for what is not bool."""
    wanted = (len(images), *images.shape[-2:])
    if getattr(masks, "shape", None) != wanted:
        found = getattr(masks, "shape", type(masks).__name__)
        raise ShapeError(
            f"Masks of shape {found} were given for images of {tuple(images.shape)}: give one an image, of its height "
            f"and width, {wanted}."
        )
    if not isinstance(masks, np.ndarray) or masks.dtype != bool:
        raise UsageError(
            f"Masks of {getattr(masks, 'dtype', type(masks).__name__)} were given: give a NumPy array of bool, True on "
            "the object, as masks > 0 is of numbers that are 0 beside it."
        )


def ranks(values: Float[np.ndarray, "b gy gx"]) -> Float[np.ndarray, "b g"]:
    """From 1 for the lowest patch of each map; equal ones share the mean of their ranks."""
    rows = flat(values)
    ends = [[np.searchsorted(np.sort(row), row, side) for side in ("left", "right")] for row in rows]
    return np.array([(left + right + 1) / 2 for left, right in ends])


def rank_correlation(one: Float[np.ndarray, "b gy gx"], other: Float[np.ndarray, "b gy gx"]) -> Float[np.ndarray, " b"]:
    """Spearman's, image by image; not a number where a map is constant."""
    centred = [ranks(values) - ranks(values).mean(axis=1, keepdims=True) for values in (one, other)]
    lengths = [np.linalg.norm(own, axis=1) for own in centred]
    with np.errstate(invalid="ignore", divide="ignore"):
        found = (centred[0] * centred[1]).sum(axis=1) / (lengths[0] * lengths[1])
    return np.where(constant(one) | constant(other), np.nan, found)


@torch.no_grad()
def probabilities_of(model: nn.Module, images: Tensor, classes: Int[np.ndarray, " b"]) -> Float[np.ndarray, " b"]:
    """The probability of each image's class."""
    from vitral.recording.forward import logits_of

    logits = logits_of(model, images)
    chosen = torch.as_tensor(classes, device=logits.device)[:, None]
    return logits.softmax(dim=1).gather(1, chosen)[:, 0].double().cpu().numpy()
