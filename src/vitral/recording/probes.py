"""Measure what the tokens of a model stand for: which patch of the image, in which window, of which image of a batch.

Two random images A and B are mixed patch by patch: in the k-th mixture a patch is B's where the k-th bit of its row or
column is 1. The model runs on A, and on B and the mixtures as a batch, up to its first attention, and nothing is asked
but how far the values of each token moved from A's towards B's. A token of one patch moves all the way or not at all,
so its bits spell the patch; one that does not move holds no image: CLS, a register, padding. Where patches overlap, the
bits are those of most of what the token sees. Neighbouring rows differ in one bit (a Gray code), so that a token on an
edge may be wrong by one row at most.

The two batches have 1 and 1 + K images, so the axis that grew holds the images. For a grid of gy x gx patches that is
2 + ⌈log2 gy⌉ + ⌈log2 gx⌉ images. Then the order of the tokens is checked in every layer (`follow_order`), or each
layer is measured by itself (`measure_layers`).

How the model is run is in `recording.apart`, how the bits are read in `recording.places`.

Axes:  b images   u units (heads and windows of an image)   m key tokens   e width   k bits   y x rows, columns
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from operator import mod

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitral.recording.apart import Reached, Subject, first_call, run_apart
from vitral.recording.askers import MovedKeys, are_the_keys, some_queries
from vitral.recording.calls import Call
from vitral.recording.indices import Grid
from vitral.recording.places import CLEAR, MOVED, Found, Places, decode, grid_bits, over_batch, unplaced
from vitral.recording.prefix_tokens import learned_tokens, names_stated, numbered
from vitral.recording.sampled_keys import sampled_calls

FEW_BITS, ORDER_MASKS = 3, 2  # bits of a small grid, masks of a larger one, by which an order is checked
MARGIN = 1 / 8  # of a patch: a model that leaves out more on a side of the image has another grid than the whole image
FINEST = 256  # rows or columns of a map whose places are told apart
MOST_PREFIX_TOKENS = 16


def is_known(model: nn.Module) -> bool:
    """Whether it is one of Vitral's own models, whose tokens are known; the tests measure these, too."""
    return type(model).__module__.startswith("vitral.") and hasattr(model, "num_prefix_tokens")


def measure(subject: Subject) -> tuple[Found, ...]:
    """See `recording.known_places.places_of`."""
    a, b = random_pair(subject)
    grids: list[Grid] = []
    alone = first_call(subject, a, grids)
    size = (a.shape[2], a.shape[3])
    if alone is None:  # of one image nothing can attend to another
        pair = first_call(subject, torch.cat([a, b]), [])
        return (over_batch(size),) if pair is not None and pair.num_keys == 2 else ()
    units = alone.values.shape[0] * alone.values.shape[1]
    coarsest: Grid = (1, 1)
    found: tuple[Found, ...] = ()
    for grid in candidates(max(alone.num_keys, alone.num_queries), units, grids, size):
        together = first_call(subject, mixtures(a, b, grid), [])
        places = None if together is None else decode(alone.values, together.values, grid)
        if places is None:
            continue
        if places.batch_axis == "keys":
            return (places,)
        # A call with a part of the patches, as with a cache of keys, says nothing of the margins.
        if places.num_seen == math.prod(places.grid) and not sees_margins(subject, a, b, places):
            return (replace(places, is_cropped=True),)
        if len(mates_of(places, 0)) == len(places.patches):  # one window
            found = follow_order(subject, a, b, places)
        grids.append(grid)
        coarsest = places.grid
        break
    if not found:
        # Each layer has tokens of its own: of the finest map that all of them may be merged from.
        finer = [grid for grid in grids if grid[0] % coarsest[0] == 0 == grid[1] % coarsest[1] and max(grid) <= FINEST]
        found = measure_layers(subject, a, b, max(finer, key=math.prod)) if finer else ()
    if not any(found):
        return ()
    if are_views(subject, a, found):
        return tuple(replace(one, are_views=True) if isinstance(one, Places) else one for one in found)
    return with_prefix_names(subject, a, found)


def random_pair(subject: Subject) -> tuple[Tensor, Tensor]:
    """Two random images of the size of the subject's."""
    generator, image = torch.Generator().manual_seed(0), subject.images[:1].detach()
    a, b = (torch.randn(image.shape, generator=generator).to(image) for _ in range(2))
    return a, b


def mixed_by(masks: Bool[Tensor, "k gy gx"], a: Tensor, b: Tensor) -> Float[Tensor, "k c y x"]:
    """Mixtures of a and b, patch by patch: b's where the mask of a grid is true."""
    row, column = (torch.arange(pixels) * side // pixels for side, pixels in zip(masks.shape[1:], a.shape[2:]))
    return torch.where(masks[:, row[:, None], column].to(a.device)[:, None], b, a)


def mixtures(a: Tensor, b: Tensor, grid: Grid) -> Float[Tensor, "k c y x"]:
    """The image b, and the mixtures of a and b whose bits spell the patches of a grid."""
    masks = bit_masks(grid, (a.shape[2], a.shape[3])).to(a.device)
    return torch.cat([b, torch.where(masks[:, None], b, a)])


def with_prefix_names(subject: Subject, a: Tensor, found: Sequence[Found]) -> tuple[Found, ...]:
    """The places with the names of the tokens without a patch, where a model has learned tokens: which of them moves in
    which call when such a parameter is exchanged."""
    learned = learned_tokens(subject.model)
    if not learned or all(not isinstance(places, Places) or places.patches.min() >= 0 for places in found):
        return tuple(found)
    before = values_of_calls(subject, a)
    named: list[dict[int, str]] = [{} for _ in found]
    for one in learned:
        with one.changed():
            after = values_of_calls(subject, a)
        for names, start, end in zip(named, before, after):
            if start.shape != end.shape:
                continue
            change = (end - start).norm(dim=-1).amax(dim=(0, 1))
            moved = (change > MOVED * change.max()).nonzero()[:, 0].tolist()
            names |= dict(zip(moved, one.names)) if len(moved) == one.count else {}
    others = numbered if any(one.role == "cls" for one in learned) else partial(names_stated, subject.model)
    return tuple(
        replace(places, prefix=prefix_of(places, names, others)) if isinstance(places, Places) else places
        for places, names in zip(found, named)
    )


def prefix_of(places: Places, names: dict[int, str], others: Callable[[int], tuple[str, ...]]) -> tuple[str, ...]:
    """The names of the tokens without a patch, in order; those of `others` where none is known."""
    tokens = [token for token, patch in enumerate(places.patches[0].tolist()) if patch < 0]
    return tuple(names.get(token, other) for token, other in zip(tokens, others(len(tokens))))


def values_of_calls(subject: Subject, image: Tensor) -> list[Tensor]:
    """The values of every call of attention for one image."""
    values: list[Tensor] = []
    with suppress(Exception):  # what comes after the last attention does not matter
        run_apart(subject, image, lambda call: values.append(call.values.detach().clone()))
    return values


def sees_margins(subject: Subject, a: Tensor, b: Tensor, places: Places) -> bool:
    """Whether a change along each side of the image, a fraction of a patch wide, moves a token on that side.

    A token that sees one patch only, among three or more, is proof enough: in a crop they would see parts of two.
    """
    if places.exact and places.leak < CLEAR and min(places.grid) > 2:
        return True
    down, right = (max(1, round(pixels / side * MARGIN)) for pixels, side in zip(a.shape[2:], places.grid))
    sides = [a.clone() for _ in range(4)]
    for image, band in zip(sides, (np.s_[:down, :], np.s_[-down:, :], np.s_[:, :right], np.s_[:, -right:])):
        image[:, :, *band] = b[:, :, *band]
    before, after = (first_call(subject, images, []) for images in (a, torch.cat([b, *sides])))
    values = [
        None if call is None else by_image(call.values, images, places) for images, call in ((1, before), (5, after))
    ]
    if values[0] is None or values[1] is None:
        return True  # nothing can be said
    change = (values[1][1:] - values[0]).norm(dim=-1)
    moved = change > MOVED * (values[1][:1] - values[0]).norm(dim=-1).max()
    rows, columns = places.patches // places.grid[1], places.patches % places.grid[1]
    beside = (rows == 0, rows == places.grid[0] - 1, columns == 0, columns == places.grid[1] - 1)
    return all(bool((one & there & (places.patches >= 0)).any()) for one, there in zip(moved, beside))


def follow_order(subject: Subject, a: Tensor, b: Tensor, places: Places) -> tuple[Places, ...]:
    """The places of every call of attention, if all have the tokens of the first in the same order; else none.

    Seen in a few mixtures in which a patch is A's or B's by chance: in another order other tokens move. A model that
    normalises over the whole image moves all tokens a little, so each must have moved nearly all the way or hardly.
    """
    if not places.exact:
        return ()
    images = torch.cat([a, b, mixed_by(order_masks(places.grid), a, b)])
    moved: list[Tensor] = []
    found: list[Places | None] = []

    def compare(call: Call) -> Tensor | None:
        values = by_image(call.values, len(images), places)
        if values is None or values.shape[1:3] != places.patches.shape:
            found.append(None)
            return None
        keys = MovedKeys.of(values)
        moved.append(keys.moved)
        rows = by_image(call.rows(some_queries(call.num_queries)), len(images), places)
        same = asks_itself(call, rows, keys)
        in_order = keys.is_clear and torch.equal(moved[-1], moved[0])
        found.append(replace(places, asks_itself=same) if in_order else None)
        return torch.zeros_like(call.values) if same is False else None  # what asks holds no patch

    with suppress(Exception):  # what comes after the last attention does not matter
        run_apart(subject, images, compare)
    known = [one for one in found if one is not None]
    return tuple(known) if len(known) == len(found) else ()


def are_views(subject: Subject, a: Tensor, found: Sequence[Found]) -> bool:
    """Whether units that hold the same patches are views of the image, or models side by side, and not heads.

    In one of two equal images the result of a single unit is changed. If it is a head, the next call's heads all learn
    of it; if it is a view of the image, or a channel that runs through the model by itself, only some do.
    """
    first = next((one for one in found if isinstance(one, Places)), None)
    if first is None or len(mates_of(first, 0)) == 1:
        return False
    learned: list[bool] = []
    each = iter(found)

    def compare(call: Call) -> Tensor | None:
        places = next(each, None)
        if places is first:
            changed, generator = call.values.clone(), torch.Generator().manual_seed(2)
            index = (first.inner, 0) if first.batch_axis == "batch" else (0, first.inner)
            changed[index] = torch.randn(changed[index].shape, generator=generator).to(changed) * changed.abs().max()
            return changed
        values = by_image(call.values, 2, places) if isinstance(places, Places) else None
        if values is None or not isinstance(places, Places):
            return None
        change = (values[1] - values[0]).norm(dim=-1)
        # Tokens without a patch may be shared, such as the class token of several dates.
        change = change.masked_fill(places.patches < 0, 0)
        units = (change > MOVED * values[0].norm(dim=-1).max()).any(dim=1)
        if not units.any():
            return None
        learned.extend(units[mates_of(places, int(units.nonzero()[0]))].tolist())
        raise Reached

    with suppress(Exception):
        run_apart(subject, torch.cat([a, a]), compare)
    return not all(learned)


def mates_of(places: Places, unit: int) -> list[int]:
    """The units that hold the same patches as this one: heads, or views of the image."""
    rows = [tuple(row) for row in places.patches.tolist()]
    return [other for other, row in enumerate(rows) if row == rows[unit]]


def asks_itself(call: Call, rows: Float[Tensor, "i u r m"] | None, keys: MovedKeys) -> bool | None:
    """Whether a call's queries are its keys, by the rows of some; None if that cannot be told."""
    if call.num_queries != call.num_keys or rows is None:
        return None
    return are_the_keys(rows, keys, torch.tensor(some_queries(call.num_queries), device=rows.device))


def by_image(tensor: Float[Tensor, "b h r e"], images: int, places: Places) -> Float[Tensor, "i u r e"] | None:
    """A tensor of a call with one axis for the images and one for the units of each; None for other units."""
    tensor = tensor.transpose(0, 1) if places.batch_axis == "heads" else tensor
    outer, inner = places.outer, places.inner
    if tensor.shape[0] != outer * images * inner or outer * inner * tensor.shape[1] != len(places.patches):
        return None
    return tensor.unflatten(0, (outer, images, inner)).movedim(1, 0).flatten(1, 3).detach().double()


def measure_layers(subject: Subject, a: Tensor, b: Tensor, grid: Grid) -> tuple[Found, ...]:
    """The places of the tokens of every layer, on this grid or a coarser one; None for layers that are not settled."""
    alone: list[Call] = []
    places: list[Found] = []
    with suppress(Exception):
        run_apart(subject, a, alone.append)

    def compare(call: Call) -> Tensor | None:
        before = alone[len(places)] if len(places) < len(alone) else None
        found: Found = None
        if before is not None:
            found = decode(before.values, call.values, grid) or unplaced(before.values, call.values, grid)
        if before is not None and isinstance(found, Places) and found.exact:
            found = replace(found, asks_itself=asks_itself_in_all(before, call, found, 1 + len(grid_bits(grid))))
        places.append(found)
        return torch.zeros_like(call.values) if isinstance(found, Places) and found.asks_itself is False else None

    with suppress(Exception):
        run_apart(subject, mixtures(a, b, grid), compare)
    if not any(isinstance(found, Places) and not found.exact for found in places):
        return tuple(places)
    # Keys that see several patches are asked for their order only, which those that are moved a little may have, too.
    sampled = itertools.chain(sampled_calls(subject, a, b), itertools.repeat(False))
    return tuple(
        replace(found, are_sampled=moved) if isinstance(found, Places) and not found.exact else found
        for found, moved in zip(places, sampled)
    )


def asks_itself_in_all(before: Call, call: Call, places: Places, images: int) -> bool | None:
    """See `asks_itself`: of one image, and of others in a run of their own."""
    queries = some_queries(call.num_queries)
    pairs = [(before.values, call.values), (before.rows(queries), call.rows(queries))]
    joined = []
    for one, several in pairs:
        first, others = by_image(one, 1, places), by_image(several, images, places)
        if first is None or others is None:
            return None
        joined.append(torch.cat([first, others]))
    values, rows = joined
    return asks_itself(call, rows, MovedKeys.of(values))


def order_masks(grid: Grid) -> Bool[Tensor, "k y x"]:
    """Masks by which tokens in another order are told from those along rows: of few patches the bits of each, else by
    chance, and not the same when rows, columns or both are turned or exchanged."""
    if len(code := grid_bits(grid)) <= FEW_BITS:
        return code.unflatten(1, grid)
    generator = torch.Generator().manual_seed(1)
    while True:
        masks = torch.rand(ORDER_MASKS, *grid, generator=generator) < 0.5
        # Along an axis of one patch nothing turns.
        turned = [masks.flip(axes) for axes in ((1,), (2,), (1, 2)) if any(masks.shape[axis] > 1 for axis in axes)]
        turned += [one.mT for one in (masks, *turned) if grid[0] == grid[1]]
        if not any(torch.equal(masks, one) for one in turned):
            return masks


def candidates(num_tokens: int, units: int, grids: Sequence[Grid], size: Grid) -> Iterator[Grid]:
    """Grids that the tokens may have: that of the last maps before the attention, then those of the image's shape.

    The tokens may be those of a whole image, or those of a window, of which the units are as many or fewer.
    """
    tried: set[Grid] = set()
    whole = [num_tokens - prefix for prefix in range(MOST_PREFIX_TOKENS + 1)]
    windows = [num_tokens * units // heads for heads in range(1, units) if units % heads == 0]
    for grid in [*reversed(grids), *(grid_like(number, size) for number in (*whole, *windows))]:
        if grid is not None and grid not in tried and math.prod(grid) > 1 and len(tried) < 4:
            tried.add(grid)
            yield grid
    # Whole rows or columns of the image, behind CLS or nothing: no convolution shows their grid.
    for number in whole[:2]:
        strips = ((number, 1), (1, number))
        yield from (one for one in strips if number > 1 and one not in tried and not any(map(mod, size, one)))


def grid_like(num_patches: int, size: Grid) -> Grid | None:
    """Rows and columns in the ratio of the image's sides; None if there are none."""
    height, width = size
    rows = math.isqrt(max(0, num_patches) * height // width)
    fits = rows > 0 and num_patches % rows == 0 and rows * width == num_patches // rows * height
    return (rows, num_patches // rows) if fits else None


def bit_masks(grid: Grid, size: Grid) -> Bool[Tensor, "k y x"]:
    """The bits of the patch that each pixel belongs to."""
    row, column = (torch.arange(pixels) * side // pixels for side, pixels in zip(grid, size))
    return grid_bits(grid).unflatten(1, grid)[:, row[:, None], column[None]]
