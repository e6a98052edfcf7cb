"""Measure what the tokens of a model stand for: which patch of the image, in which window, of which image of a batch.

Two random images A and B are mixed patch by patch: in the k-th mixture a patch is B's where the k-th bit of its row or
column is 1. The model runs on A, and on B and the mixtures as a batch, up to its first attention, and nothing is asked
but how far the values of each token moved from A's towards B's. A token of one patch moves all the way or not at all,
so its bits spell the patch; one that does not move holds no image: CLS, a register, padding. Where patches overlap, the
bits are those of most of what the token sees. Neighbouring rows differ in one bit (a Gray code), so that a token on an
edge may be wrong by one row at most.

The two batches have 1 and 1 + K images, so the axis that grew holds the images. For a grid of gy x gx patches that is
2 + ⌈log2 gy⌉ + ⌈log2 gx⌉ images.

Axes:  b images   u units (heads and windows of an image)   m key tokens   e width   k bits   y x rows, columns
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from vitral.base.modes import evaluating
from vitral.recording.calls import Call
from vitral.recording.eager import EAGER
from vitral.recording.indices import Grid
from vitral.recording.operators import name_of
from vitral.recording.recognizer import Operators, Recognizer
from vitral.recording.undisturbed import undisturbed

MOVED = 1e-3  # of the largest distance: a token that moved less holds no image
CLEAR = 0.02  # how far a token of one patch may be from all or nothing, in half precision
AGREEMENT = 0.85  # of bits, for tokens that see more than one patch, with the order that they are taken to have
MOST_PREFIX_TOKENS = 16


@dataclass(frozen=True)
class Places:
    """The patch of each key token of the first attention, by rows of `grid`; -1 for tokens that hold no image.

    `patches` has a row for each unit of an image, in the order in which the call has them: units before the images in
    the batch axis (`outer` of them), after (`inner`), then those of the axis of heads. `exact` is whether every token
    sees one patch only. `batch_axis` is "batch", "heads" or "keys": where the images of a batch are.
    """

    grid: Grid
    patches: Int[Tensor, "u m"]
    outer: int
    inner: int
    batch_axis: str
    exact: bool

    @property
    def in_order(self) -> bool:
        """Whether the patches come last, along rows, in attention over the whole image."""
        row = self.patches[0]
        return bool((row[row >= 0].diff() == 1).all()) and bool((row[1:] >= row[:-1]).all())


class Reached(Exception):
    """The first attention was reached, which is all that was wanted. A model that catches it runs on, to no harm."""


class Unfused(TorchFunctionMode):
    """Changes nothing, but where any mode of functions is active PyTorch leaves out its fused encoder layers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


def first_call(model: nn.Module, images: Float[Tensor, "b c y x"], grids: list[Grid]) -> Call | None:
    """The first call of attention that a model makes for images; `grids` gets the sizes of the maps before it."""
    return next(iter(calls_of(model, images, grids, first_only=True)), None)


def calls_of(
    model: nn.Module, images: Float[Tensor, "b c y x"], grids: list[Grid], first_only: bool = False
) -> list[Call]:
    """The calls of attention that a model makes for images, each of which returns zeros.

    So no token learns of another: on the residual stream each stays what it was, and its place can be measured in
    every layer.
    """
    recognizer, calls = Recognizer(model), list[Call]()

    def see(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Any:
        seen = recognizer.recognize(operator, args, kwargs, result)
        if name_of(operator) == "convolution" and result.ndim == 4 and not calls:
            grids.append((result.shape[2], result.shape[3]))
        if seen is None:
            return result
        calls.append(seen.call)
        if first_only:
            raise Reached
        nothing = torch.zeros_like(seen.call.out)
        return (nothing, *result[1:]) if isinstance(result, tuple) else nothing

    with ExitStack() as stack:
        stack.enter_context(evaluating(model))
        stack.enter_context(undisturbed(model))
        stack.enter_context(torch.no_grad())
        stack.enter_context(EAGER)
        stack.enter_context(Operators(see))
        stack.enter_context(Unfused())
        stack.enter_context(suppress(Reached))
        model(images)
    return calls


KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[int, ...], "tuple[Places | None, ...]"]] = WeakKeyDictionary()


def places_of(model: nn.Module, images: Float[Tensor, "b c y x"]) -> tuple[Places | None, ...]:
    """What the tokens of the first attention stand for, for images of this size; None where it cannot be settled.

    Of a model that attends within windows, whose windows may differ from layer to layer, the same for every call.

    Measured once for a model and an image size.
    """
    found = KNOWN.setdefault(model, {})
    size = tuple(images.shape[1:])
    if size not in found:
        try:
            found[size] = measure(model, images[:1].detach())
        except Exception:  # a stranger's model may raise anything for images that it was not given
            found[size] = ()
    return found[size]


def is_known(model: nn.Module) -> bool:
    """Whether it is one of Vitral's own models, whose tokens are known; the tests measure these, too."""
    return type(model).__module__.startswith("vitral.") and hasattr(model, "num_prefix_tokens")


def attends_over_batch(model: nn.Module, size: Grid) -> bool:
    """Whether an image's attention goes to the other images of a batch, as by a mistake in the order of axes."""
    if is_known(model):
        return False
    image = torch.zeros(1, 3, *size, device=next((value.device for value in model.parameters()), None))
    return any(places is not None and places.batch_axis == "keys" for places in places_of(model, image))


def measure(model: nn.Module, image: Float[Tensor, "1 c y x"]) -> tuple[Places | None, ...]:
    """See `places_of`."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(image.shape, generator=generator).to(image) for _ in range(2))
    grids: list[Grid] = []
    alone = first_call(model, a, grids)
    height, width = image.shape[2:]
    if alone is None:  # of one image nothing can attend to another
        pair = first_call(model, torch.cat([a, b]), [])
        return (over_batch((height, width)),) if pair is not None and pair.num_keys == 2 else ()
    units = alone.values.shape[0] * alone.values.shape[1]
    for grid in candidates(alone.num_keys, units, grids, (height, width)):
        masks = bit_masks(grid, (height, width)).to(image.device)
        mixtures = torch.cat([b, torch.where(masks[:, None], b, a)])
        together = first_call(model, mixtures, [])
        if together is None or (places := decode(alone, together, len(mixtures), grid)) is None:
            continue
        if len({tuple(row) for row in places.patches.tolist()}) == 1:
            return (places,)
        pairs = zip(calls_of(model, a, []), calls_of(model, mixtures, []))
        return tuple(decode(one, several, len(mixtures), grid) for one, several in pairs)
    return ()


def candidates(num_keys: int, units: int, grids: Sequence[Grid], size: Grid) -> Iterator[Grid]:
    """Grids that the tokens may have: that of the last maps before the attention, then those of the image's shape.

    The keys may be those of a whole image, or those of a window, of which the units are as many or fewer.
    """
    tried: set[Grid] = set()
    whole = [num_keys - prefix for prefix in range(MOST_PREFIX_TOKENS + 1)]
    windows = [num_keys * units // heads for heads in range(1, units) if units % heads == 0]
    for grid in [*reversed(grids), *(grid_like(number, size) for number in (*whole, *windows))]:
        if grid is not None and grid not in tried and math.prod(grid) > 1 and len(tried) < 4:
            tried.add(grid)
            yield grid


def grid_like(num_patches: int, size: Grid) -> Grid | None:
    """Rows and columns in the ratio of the image's sides; None if there are none."""
    height, width = size
    rows = math.isqrt(max(0, num_patches) * height // width)
    fits = rows > 0 and num_patches % rows == 0 and rows * width == num_patches // rows * height
    return (rows, num_patches // rows) if fits else None


def gray_bits(count: int) -> Bool[Tensor, "k g"]:
    """The bits of a Gray code for so many places: neighbours differ in one."""
    codes = torch.arange(count) ^ (torch.arange(count) >> 1)
    return torch.stack([(codes >> bit) & 1 for bit in range(max(0, count - 1).bit_length())]).bool()


def grid_bits(grid: Grid) -> Bool[Tensor, "k g"]:
    """The bits of each patch, by rows: those of its row, then those of its column."""
    rows, columns = (gray_bits(side) if side > 1 else torch.zeros(0, side, dtype=torch.bool) for side in grid)
    return torch.cat(
        [
            rows[:, :, None].expand(-1, -1, grid[1]).flatten(1),
            columns[:, None].expand(-1, grid[0], -1).flatten(1),
        ]
    )


def bit_masks(grid: Grid, size: Grid) -> Bool[Tensor, "k y x"]:
    """The bits of the patch that each pixel belongs to."""
    row, column = (torch.arange(pixels) * side // pixels for side, pixels in zip(grid, size))
    return grid_bits(grid).unflatten(1, grid)[:, row[:, None], column[None]]


def over_batch(grid: Grid) -> Places:
    """The places of a model whose attention goes from image to image."""
    return Places(grid, torch.full((1, 1), -1), 1, 1, "keys", exact=False)


def decode(alone: Call, together: Call, num_images: int, grid: Grid) -> Places | None:
    """The places that explain the values for one image and for a batch of `num_images`; None if none do."""
    before, after = alone.values.double(), together.values.double()
    grown = [axis for axis in range(3) if after.shape[axis] == before.shape[axis] * num_images]
    same = [axis for axis in range(3) if after.shape[axis] == before.shape[axis]]
    if len(grown) != 1 or len(same) != 2 or not torch.isfinite(after).all():
        return None
    axis = grown[0]
    if axis == 2:
        return over_batch(grid)
    if axis == 1:
        before, after = before.transpose(0, 1), after.transpose(0, 1)
    start = before.flatten(0, 1)
    best: tuple[float, int, Tensor, Tensor] | None = None
    length = before.shape[0]
    for inner in (inner for inner in range(1, length + 1) if length % inner == 0):
        # One axis of units before the images and one after them.
        split = after.unflatten(0, (length // inner, num_images, inner)).movedim(1, 0)
        moved = split.reshape(num_images, *start.shape) - start
        whole = moved[0]
        scale = whole.square().sum(-1)
        share = (moved[1:] * whole).sum(-1) / scale.clamp_min(1e-30)  # how far each went from A to B
        holds = scale.sqrt() > MOVED * scale.sqrt().max()
        # Another order of units and images compares tokens that have nothing to do with each other.
        missed = (moved[1:] - share[..., None] * whole).square().sum(-1) / scale.clamp_min(1e-30)
        outside = (share - share.clamp(-0.2, 1.2)).abs()
        fault = float((missed + outside)[:, holds].mean()) + float((moved[:, ~holds] ** 2).sum())
        if best is None or fault < 0.9 * best[0]:
            best = fault, inner, share, holds
    assert best is not None
    _, inner, share, holds = best
    outer = length // inner
    patches, exact = spelled(share, holds, grid)
    if patches is None:
        return None
    return Places(grid, patches, outer, inner, ("batch", "heads")[axis], exact)


def spelled(share: Float[Tensor, "k u m"], holds: Bool[Tensor, "u m"], grid: Grid) -> tuple[Tensor | None, bool]:
    """The patch that the bits of each token spell, and whether every bit is clear; None if they spell no order."""
    code = grid_bits(grid).to(share.device)  # (k, g)
    bits = share > 0.5
    agree = (bits[:, :, :, None] == code[:, None, None]).sum(0)  # (u, m, g): how many bits are those of each patch
    nearest, patch = agree.max(-1)
    patch = torch.where(holds, patch, -1)
    exact = bool(((share - bits.double()).abs()[:, holds] < CLEAR).all()) and bool((nearest[holds] == len(code)).all())
    if exact:
        each_once = all(len(set(own := row[row >= 0].tolist())) == len(own) for row in patch)
        counts = torch.bincount(patch[patch >= 0], minlength=math.prod(grid))
        return (patch, True) if each_once and bool((counts == counts[0]).all()) and counts[0] else (None, False)
    # Tokens that see several patches: the order is one of two, or it is not known.
    number = math.prod(grid)
    if any(int(row.sum()) != number for row in holds):
        return None, False
    orders = (torch.arange(number), torch.arange(number).unflatten(0, grid).T.flatten())
    for order in orders:
        taken = torch.full_like(patch, -1)
        for unit, row in zip(taken, holds):
            unit[row] = order.to(unit)
        agreement = (bits == code[:, taken.clamp_min(0)])[:, holds].double().mean()
        if agreement >= AGREEMENT:
            return taken, False
    return None, False
