"""Decode what the tokens of a call of attention stand for, from how far their values moved (see `recording.probes`).

A token that holds one patch moves all the way from A to B, or not at all, so its bits spell the patch. Tokens that see
several patches, where convolutions overlap, are asked only whether they stand along rows or along columns.

Axes:  b images   u units (heads and windows of an image)   m key tokens   e width   k bits   y x rows, columns
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vitral.recording.indices import Grid
from vitral.recording.windows import Windows

MOVED = 1e-3  # of the largest distance: a token that moved less holds no image
CLEAR = 0.02  # how far a token of one patch may be from all or nothing, in half precision
LEAST_CLEAR, SURE = 0.3, 0.1  # the same where a model normalises over the whole image; where patches have no token
AGREEMENT = 0.85  # of bits, for tokens that see more than one patch, with the order that they are taken to have
SPREAD_BESIDE, SPREAD = 0.05, 0.3  # how far units may differ that are heads; measured 0.02 and 0.22, windows 0.1 to 1
WINDOWS = 3  # times the variance between heads: the least between windows; measured 10 and more, or 0.07 and less
CONTRAST = 0.3  # the least difference that a bit makes, on average, to tokens that see more than one patch
# How many rows or columns the patch that fits a token best may be from its own, and how many may be more than one;
# measured for 10 kinds of overlapping convolutions: 2, and 1 in 80.
FARTHEST, FAR = 2, 0.05
EQUAL, LEAST_FAULT = 2, 1e-6  # faults that differ by less, as a factor or in all, are those of rounding
FEWEST = 4  # tokens that see more than one patch, of which an order can be told


@dataclass(frozen=True)
class Places:
    """The patch of each key token of the first attention, by rows of `grid`; -1 for tokens that hold no image.

    `patches` has a row for each unit of an image, in the order in which the call has them: units before the images in
    the batch axis (`outer` of them), after (`inner`), then those of the axis of heads. `exact` is whether each token
    stands for one patch, `leak` how far the others may move it, as a fraction of the way: where it sees a part of them,
    or the model normalises over the whole image. `batch_axis` is "batch", "heads" or "keys": where the images of a
    batch are. `is_alone` is whether that holds for one image at a time, and this is a batch of several. `is_cropped`:
    the model does not see a margin of the image, so that the grid is not that of the whole image. `are_views`: the
    units are no heads, since they run through the model side by side. `follows_content`: the tokens of the given images
    are others than those of random ones; `are_reordered`: they are the same, but their images stand in another order of
    the batch, by their content. `are_sampled`: the keys are taken from places that depend on the image.
    `asks_itself`: whether the queries are the keys;
    None if not known. `prefix` names the tokens without a patch, in order, if that was measured.
    """

    grid: Grid
    patches: Int[Tensor, "u m"]
    outer: int
    inner: int
    batch_axis: str
    exact: bool
    leak: float = 0.0
    is_alone: bool = False
    is_cropped: bool = False
    are_views: bool = False
    follows_content: bool = False
    are_reordered: bool = False
    are_sampled: bool = False
    asks_itself: bool | None = None
    prefix: tuple[str, ...] = ()

    @property
    def num_seen(self) -> int:
        """How many patches of the grid have a token."""
        return len(set(self.patches.flatten().tolist()) - {-1})

    def allows_prefix(self, number: int) -> bool:
        """Whether the patches may be all tokens but the first `number`; not known where tokens see several patches."""
        holds_none = self.patches < 0
        return not self.exact or bool(holds_none[:, :number].all() & ~holds_none[:, number:].any())


@dataclass(frozen=True)
class Unplaced:
    """How far the tokens of a call moved towards B in each mixture, (bits, units, tokens), where that spells no place.

    Units are windows, image by image, and then heads. Enough to check a place that is known from elsewhere.
    """

    grid: Grid
    share: Float[Tensor, "k u m"]

    def heads_are_outside(self, heads: int) -> bool:
        """Whether what was taken for `heads` of a window are windows, and the sequences outside of them are the heads.

        Heads of one window hold the same tokens, and move alike; windows hold others.
        """
        mean = self.share.mean(-1).unflatten(1, (-1, heads))  # (k, units outside, heads)
        outside, inside = (float(mean.var(axis, unbiased=False).mean()) for axis in (1, 2))
        return inside > WINDOWS * outside

    def supports(self, windows: Windows) -> bool:
        """Whether most tokens moved as they must if they stand where these windows say."""
        _, units, tokens = self.share.shape
        number, size = windows.places.shape
        kept = next((bits for coarse, bits in coarser(self.grid) if coarse == windows.grid), None)
        if kept is None or size != tokens or units % number:
            return False
        share, holds = self.share[kept].unflatten(1, (number, -1)), (windows.places >= 0)[:, None]
        expected = grid_bits(windows.grid).to(share.device)[:, windows.places.clamp_min(0)][:, :, None]
        bits = share > share.mean(dim=(1, 2, 3), keepdim=True)
        return bool((bits == expected)[:, holds.expand(share.shape[1:])].double().mean() >= AGREEMENT)


Found = Places | Unplaced | None


def decode(alone: Float[Tensor, "b h m e"], together: Float[Tensor, "b2 h2 m2 e"], grid: Grid) -> Places | None:
    """The places that explain the values of a call for one image and for a batch of mixtures; None if none do.

    On this grid, or on a coarser one: where a token was merged of 2 x 2 patches, all of them share their bits but the
    lowest two, which for a Gray code leaves the code of the coarser grid.
    """
    before, after = alone.detach().double(), together.detach().double()
    num_images = 1 + len(grid_bits(grid))
    grown = [axis for axis in range(3) if after.shape[axis] == before.shape[axis] * num_images]
    same = [axis for axis in range(3) if after.shape[axis] == before.shape[axis]]
    if len(grown) != 1 or len(same) != 2 or not torch.isfinite(after).all():
        return None
    axis = grown[0]
    if axis == 2:  # several keys of each image stand in one sequence: packed, and to be measured one image at a time
        return over_batch(grid) if before.shape[2] == 1 else None
    if axis == 1:
        before, after = before.transpose(0, 1), after.transpose(0, 1)
    start = before.flatten(0, 1)
    length = len(before)
    best: tuple[float, Places] | None = None
    for coarse, kept in coarser(grid):
        # Another order of units and images compares tokens that have nothing to do with each other.
        movements = sorted(
            (Movement.of(start, after, num_images, inner, kept) for inner in divisors(length)),
            key=lambda one: one.fault,
        )
        # Units that share their values move alike in several orders, of which one spells places.
        equal = [one for one in movements if one.fault <= EQUAL * movements[0].fault + LEAST_FAULT]
        movement = next((one for one in equal if spelled_exactly(one, coarse) is not None), movements[0])
        inner, unit_axis = movement.inner, ("batch", "heads")[axis]
        exactly = spelled_exactly(movement, coarse)
        if exactly is not None and (exactly[0] < CLEAR or same_for_all(movement, kept, length > 1)):
            return Places(coarse, exactly[1], length // inner, inner, unit_axis, exact=True, leak=exactly[0])
        found = spelled_mostly(movement, coarse)
        if found is not None and same_for_all(movement, kept, length > 1) and (best is None or found[0] > best[0]):
            best = found[0], Places(coarse, found[1], length // inner, inner, unit_axis, exact=False)
    return None if best is None else best[1]


def unplaced(alone: Tensor, together: Tensor, grid: Grid) -> Unplaced | None:
    """How tokens moved whose places were not found; None unless the images stand in the batch, each as a whole."""
    num_images = 1 + len(grid_bits(grid))
    if together.shape != (len(alone) * num_images, *alone.shape[1:]) or not together.isfinite().all():
        return None
    bits = list(range(num_images - 1))
    movement = Movement.of(alone.double().flatten(0, 1), together.double(), num_images, len(alone), bits)
    return Unplaced(grid, movement.share)


def over_batch(grid: Grid) -> Places:
    """The places of a model whose attention goes from image to image."""
    return Places(grid, torch.full((1, 1), -1), 1, 1, "keys", exact=False)


@dataclass(frozen=True)
class Movement:
    """How the values of each token moved from the image A to B, and to each mixture, for one order of units and images.

    `inner` units of an image stand after the images in their axis. `share` is how far a token went towards B in each
    mixture whose bit is kept, `holds` whether it holds any image at all, `fault` how much of all this is no movement
    between A and B.
    """

    inner: int
    moved: Float[Tensor, "k u m e"]
    share: Float[Tensor, "k2 u m"]
    holds: Bool[Tensor, "u m"]
    fault: float

    @classmethod
    def of(cls, start: Tensor, after: Tensor, num_images: int, inner: int, kept: Sequence[int]) -> "Movement":
        """From the values of A, (u, m, e), and those of B and the mixtures, with the images in their first axis."""
        split = after.unflatten(0, (-1, num_images, inner)).movedim(1, 0)
        moved = split.reshape(num_images, *start.shape) - start
        whole, parts = moved[0], moved[1:][kept]
        scale = whole.square().sum(-1)
        share = (parts * whole).sum(-1) / scale.clamp_min(1e-30)
        holds = scale.sqrt() > MOVED * scale.sqrt().max()
        missed = (parts - share[..., None] * whole).square().sum(-1) / scale.clamp_min(1e-30)
        outside = (share - share.clamp(-0.2, 1.2)).abs()
        fault = float((missed + outside)[:, holds].sum()) + float((parts[:, ~holds] ** 2).sum())
        return cls(inner, moved, share, holds, fault)


def divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]


def same_for_all(movement: Movement, kept: Sequence[int], beside_images: bool) -> bool:
    """Whether all units see the same of a coarser grid's cells, so that they are heads and no dilated windows.

    Heads of all tokens are moved alike by the bits within the cells; windows that take one patch of each cell are not.
    Units that stand `beside_images` in one axis are rather windows.
    """
    moved = movement.moved
    whole, within = moved[0], [1 + bit for bit in range(len(moved) - 1) if bit not in kept]
    share = (moved[within] * whole).sum(-1) / whole.square().sum(-1).clamp_min(1e-30)
    mean = share.mean(-1)  # (k, u)
    spread = (mean.amax(1) - mean.amin(1)).max() if within else 0.0
    return bool(spread <= (SPREAD_BESIDE if beside_images else SPREAD))


def coarser(grid: Grid) -> Iterator[tuple[Grid, list[int]]]:
    """The grid and those of 2, 4, ... times fewer rows and columns, each with the numbers of its bits."""
    row_bits, column_bits = ((side - 1).bit_length() for side in grid)
    shifts = sorted(itertools.product(range(row_bits + 1), range(column_bits + 1)), key=lambda pair: (sum(pair), pair))
    for down, right in shifts:
        if grid[0] % 2**down == 0 and grid[1] % 2**right == 0 and grid[0] * grid[1] > 2 ** (down + right):
            kept = [*range(down, row_bits), *range(row_bits + right, row_bits + column_bits)]
            yield (grid[0] >> down, grid[1] >> right), kept


def spelled_exactly(movement: Movement, grid: Grid) -> tuple[float, Int[Tensor, "u m"]] | None:
    """The patch that the bits of each token spell, -1 for none, where each token stands for one patch; else None.

    With how far a token is, at most, from all of its way or none: by what moves it besides its own patch. Some of the
    patches may be those of no token.
    """
    code = grid_bits(grid).to(movement.share.device)  # (k, g)
    share, holds = movement.share, movement.holds
    if not holds.any() or not len(code):
        return None
    bits = share > 0.5
    leak = float((share - bits.double()).abs()[:, holds].max())
    if leak > LEAST_CLEAR:
        return None
    agree = (bits[:, :, :, None] == code[:, None, None]).sum(0)  # (u, m, g): how many bits are those of each patch
    nearest, patch = agree.max(-1)
    patch = torch.where(holds, patch, -1)
    each_once = all(len(set(own := row[row >= 0].tolist())) == len(own) for row in patch)
    counts = torch.bincount(patch[patch >= 0], minlength=math.prod(grid))
    # A token that was merged of several patches, and is mostly one of them, is no proof that the others have none.
    is_whole = bool(counts.all()) or leak < SURE
    known = bool((nearest[holds] == len(code)).all()) and bool((counts[counts > 0] == counts.max()).all()) and is_whole
    return (leak, patch) if known and each_once else None


def spelled_mostly(movement: Movement, grid: Grid) -> tuple[float, Int[Tensor, "u m"]] | None:
    """The order of tokens that see several patches, along rows or columns, if most bits are those of that order.

    With the least difference that a bit makes for the tokens of whose patch it is 1. None if it is neither order.
    """
    share, holds, number = movement.share, movement.holds, math.prod(grid)
    if number < FEWEST or any(int(row.sum()) != number for row in holds):
        return None
    code = grid_bits(grid).to(share.device)
    # What they see of the rest of the image moves all of them alike.
    bits = share > share[:, holds].mean(1)[:, None, None]
    best: tuple[float, Tensor] | None = None
    for order in (torch.arange(number), torch.arange(number).unflatten(0, grid).T.flatten()):
        patches = torch.full(holds.shape, -1, device=share.device)
        for unit, row in zip(patches, holds):
            unit[row] = order.to(unit)
        expected = code[:, patches.clamp_min(0)]  # (k, u, m)
        agreement = float((bits == expected)[:, holds].double().mean())
        ones, zeros = expected & holds, ~expected & holds
        contrast = (share * ones).sum((1, 2)) / ones.sum((1, 2)) - (share * zeros).sum((1, 2)) / zeros.sum((1, 2))
        is_clear = agreement >= AGREEMENT and contrast.min() >= CONTRAST and (best is None or contrast.min() > best[0])
        if is_clear and are_near(share, patches, grid):
            best = float(contrast.min()), patches
    return best


def are_near(share: Float[Tensor, "k u m"], patches: Int[Tensor, "u m"], grid: Grid) -> bool:
    """Whether the row and column that fit each token best are its own or next to them: else some tokens are in
    another order."""
    holds, far = patches >= 0, torch.zeros_like(patches)
    places = patches // grid[1], patches % grid[1]
    bits = [gray_bits(side).to(share) for side in grid]
    for code, part, place in zip(bits, share.split([len(code) for code in bits]), places):
        # The squared distance of a token's shares from the code of each place, without what is the same for all places.
        distance = code.square().sum(0) - 2 * torch.einsum("kum,kg->umg", part, code)
        far = torch.maximum(far, (distance.argmin(-1) - place).abs())
    far = far[holds]
    return int(far.max()) <= FARTHEST and float((far > 1).double().mean()) <= FAR


def gray_bits(count: int) -> Bool[Tensor, "k g"]:
    """The bits of a Gray code for so many places: neighbours differ in one."""
    codes = torch.arange(count) ^ (torch.arange(count) >> 1)
    bits = torch.arange(max(0, count - 1).bit_length())
    return (codes >> bits[:, None] & 1).bool()


def grid_bits(grid: Grid) -> Bool[Tensor, "k g"]:
    """The bits of each patch, by rows: those of its row, then those of its column."""
    rows, columns = map(gray_bits, grid)
    return torch.cat(
        [
            rows[:, :, None].expand(-1, -1, grid[1]).flatten(1),
            columns[:, None].expand(-1, grid[0], -1).flatten(1),
        ]
    )
