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

import math
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from vitral.recording.apart import Subject, first_call, run_apart
from vitral.recording.askers import are_the_keys, some_queries
from vitral.recording.calls import Call
from vitral.recording.indices import Grid
from vitral.recording.places import MOVED, Found, Places, decode, grid_bits, over_batch, unplaced
from vitral.recording.prefix_tokens import learned_tokens

FEW_BITS, ORDER_MASKS = 3, 2  # bits of a small grid, masks of a larger one, by which an order is checked
FINEST = 256  # rows or columns of a map whose places are told apart
MOST_PREFIX_TOKENS = 16
KNOWN: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], "tuple[Found, ...]"]] = WeakKeyDictionary()


def places_of(subject: Subject) -> tuple[Found, ...]:
    """What the tokens of each call of attention stand for, for images of this size; None where it cannot be settled.

    A single one whose images are the keys stands for all calls. Measured once for a model and an image size.
    """
    if not subject.treats_images_alike:
        return ()
    found = KNOWN.setdefault(subject.model, {})
    if subject.key not in found and (places := measured(subject)):
        found[subject.key] = places
    batch = len(subject.images)
    key = (*subject.key, str(batch))
    if subject.key not in found and key not in found:
        # A model that was traced takes the batch that it was traced with; one that loops over its images shows each
        # layer once for each of them, so that these are told apart in a batch of one only.
        found[key] = measured(replace(subject, fixed_batch=batch)) or tuple(
            replace(places, is_alone=batch > 1) if isinstance(places, Places) else places
            for places in measured(replace(subject, fixed_batch=1))
        )
    return found[subject.key if subject.key in found else key]


def measured(subject: Subject) -> tuple[Found, ...]:
    """What `measure` finds; nothing for a model that raises."""
    try:
        return measure(subject)
    except Exception:  # a stranger's model may raise anything for images that it was not given
        return ()


def is_known(model: nn.Module) -> bool:
    """Whether it is one of Vitral's own models, whose tokens are known; the tests measure these, too."""
    return type(model).__module__.startswith("vitral.") and hasattr(model, "num_prefix_tokens")


def attends_over_batch(model: nn.Module, size: Grid) -> bool:
    """Whether an image's attention goes to the other images of a batch, as by a mistake in the order of axes."""
    if is_known(model):
        return False
    image = torch.zeros(1, 3, *size, device=next((value.device for value in model.parameters()), None))
    return any(
        isinstance(places, Places) and places.batch_axis == "keys"
        for places in places_of(Subject(model, image, (image,), {}))
    )


def measure(subject: Subject) -> tuple[Found, ...]:
    """See `places_of`."""
    generator, image = torch.Generator().manual_seed(0), subject.images[:1].detach()
    a, b = (torch.randn(image.shape, generator=generator).to(image) for _ in range(2))
    grids: list[Grid] = []
    alone = first_call(subject, a, grids)
    size = (image.shape[2], image.shape[3])
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
        if not (places.exact and min(places.grid) > 2) and not sees_margins(subject, a, b, places):
            return (replace(places, is_cropped=True),)
        places = replace(places, prefix=measured_prefix(subject, a, alone, places))
        one_window = len(mates_of_first(places)) == len(places.patches)
        if one_window and (found := follow_order(subject, a, b, places)):
            return found
        grids.append(grid)
        coarsest = places.grid
        break
    # Each layer has tokens of its own: of the finest map that all of them may be merged from.
    finer = [grid for grid in grids if grid[0] % coarsest[0] == 0 == grid[1] % coarsest[1] and max(grid) <= FINEST]
    each = measure_layers(subject, a, b, max(finer, key=math.prod)) if finer else ()
    return each if any(each) else ()


def mixtures(a: Tensor, b: Tensor, grid: Grid) -> Float[Tensor, "k c y x"]:
    """The image b, and the mixtures of a and b whose bits spell the patches of a grid."""
    masks = bit_masks(grid, (a.shape[2], a.shape[3])).to(a.device)
    return torch.cat([b, torch.where(masks[:, None], b, a)])


def measured_prefix(subject: Subject, a: Tensor, before: Call, places: Places) -> tuple[str, ...]:
    """The names of the tokens without a patch, where a model has learned tokens of several roles: which of them moves
    with which parameter. Empty where the names alone are enough."""
    learned = learned_tokens(subject.model)
    names = {token: "" for token, patch in enumerate(places.patches[0].tolist()) if patch < 0}
    if len(learned) < 2 or not names:
        return ()
    for one in learned:
        with one.changed():
            after = first_call(subject, a, [])
        if after is None or after.values.shape != before.values.shape:
            return ()
        change = (after.values - before.values).norm(dim=-1).amax(dim=(0, 1))
        moved = [token for token in names if change[token] > MOVED * change.max()]
        names |= dict(zip(moved, one.names)) if len(moved) == one.count else {}
    return tuple(name or f"prefix {index}" for index, name in enumerate(names.values()))


def sees_margins(subject: Subject, a: Tensor, b: Tensor, places: Places) -> bool:
    """Whether a change of the outermost half patch on each side of the image moves a token there.

    A token that sees one patch only, among three or more, is proof enough: in a crop they would see parts of two.
    """
    height, width = a.shape[2:]
    down, right = (max(1, math.ceil(pixels / side / 2)) for pixels, side in zip(a.shape[2:], places.grid))
    framed = b.clone()
    framed[:, :, down : height - down, right : width - right] = a[:, :, down : height - down, right : width - right]
    before, after = (first_call(subject, images, []) for images in (a, framed))
    values = [None if call is None else by_image(call.values, 1, places) for call in (before, after)]
    if values[0] is None or values[1] is None:
        return True  # nothing can be said
    distance = (values[1] - values[0]).norm(dim=-1)[0]
    seen = places.patches[(distance > MOVED * distance.max()) & (places.patches >= 0)]
    rows, columns = seen // places.grid[1], seen % places.grid[1]
    return {0, places.grid[0] - 1} <= set(rows.tolist()) and {0, places.grid[1] - 1} <= set(columns.tolist())


def follow_order(subject: Subject, a: Tensor, b: Tensor, places: Places) -> tuple[Places, ...]:
    """The places of every call of attention, if all have the tokens of the first in the same order; else none.

    Seen in a few mixtures in which a patch is A's or B's by chance: in another order other tokens move. In one more
    image the result of a single unit is changed at the first call. If it is a head, the next call's heads all learn of
    it; if it is a view of the image, or a channel that runs through the model by itself, only some do.
    """
    if not places.exact:
        return ()
    masks = order_masks(places.grid)
    row, column = (torch.arange(pixels) * side // pixels for side, pixels in zip(places.grid, a.shape[2:]))
    mixed = torch.where(masks[:, row[:, None], column].to(a.device)[:, None], b, a)
    images = torch.cat([a, mixed, a])
    last, mates, generator = len(images) - 1, mates_of_first(places), torch.Generator().manual_seed(2)
    moved: list[Tensor] = []
    found: list[Places | None] = []
    learned: list[bool] = []  # whether the first call's other heads learned of the change

    def compare(call: Call) -> Tensor | None:
        values = by_image(call.values, len(images), places)
        if values is None or values.shape[1:3] != places.patches.shape:
            found.append(None)
            return None
        change = (values[1:] - values[:1]).norm(dim=-1)
        own = change > MOVED * change[:-1].max()
        moved.append(own[:-1])
        if not learned and own[-1].any():
            learned.extend(own[-1][mates].any(dim=1).tolist())
        rows = by_image(call.rows(some_queries(call.num_queries)), len(images), places)
        same = asks_itself(call, rows, own)
        found.append(replace(places, asks_itself=same) if torch.equal(moved[-1], moved[0]) else None)
        if same is False:  # what asks holds no patch
            return torch.zeros_like(call.values)
        if len(found) > 1 or len(mates) == 1:
            return None
        changed = call.values.clone()
        index = (last * places.inner, 0) if places.batch_axis == "batch" else (0, last * places.inner)
        changed[index] = torch.randn(changed[index].shape, generator=generator).to(changed) * changed.abs().max()
        return changed

    with suppress(Exception):  # what comes after the last attention does not matter
        run_apart(subject, images, compare)
    are_views = any(learned) and not all(learned)
    known = [replace(one, are_views=are_views) for one in found if one is not None]
    return tuple(known) if len(known) == len(found) else ()


def mates_of_first(places: Places) -> list[int]:
    """The units that hold the same patches as the first: its heads, or views of the image."""
    rows = [tuple(row) for row in places.patches.tolist()]
    return [unit for unit, row in enumerate(rows) if row == rows[0]]


def asks_itself(call: Call, rows: Float[Tensor, "i u r m"] | None, keys_moved: Bool[Tensor, "j u m"]) -> bool | None:
    """Whether a call's queries are its keys, by the rows of some; None if that cannot be told.

    `keys_moved` says which keys of all images but the first are others than in that.
    """
    if call.num_queries != call.num_keys or rows is None:
        return None
    queries = torch.tensor(some_queries(call.num_queries), device=rows.device)
    return are_the_keys(rows, torch.cat([torch.zeros_like(keys_moved[:1]), keys_moved]), queries)


def by_image(tensor: Float[Tensor, "b h r e"], images: int, places: Places) -> Float[Tensor, "i u r e"] | None:
    """A tensor of a call with one axis for the images and one for the units of each; None for other units."""
    tensor = tensor.transpose(0, 1) if places.batch_axis == "heads" else tensor
    outer, inner = places.outer, places.inner
    if tensor.shape[0] != outer * images * inner or outer * inner * tensor.shape[1] != len(places.patches):
        return None
    return tensor.unflatten(0, (outer, images, inner)).movedim(1, 0).flatten(1, 3).double()


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
    return tuple(places)


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
    change = (values[1:] - values[:1]).norm(dim=-1)
    return asks_itself(call, rows, change > MOVED * change.max())


def order_masks(grid: Grid) -> Bool[Tensor, "k y x"]:
    """Masks by which tokens in another order are told from those along rows: of few patches the bits of each, else by
    chance, and not the same when rows, columns or both are turned or exchanged."""
    if len(code := grid_bits(grid)) <= FEW_BITS:
        return code.unflatten(1, grid)
    generator = torch.Generator().manual_seed(1)
    while True:
        masks = torch.rand(ORDER_MASKS, *grid, generator=generator) < 0.5
        turned = [masks.flip(axes) for axes in ((1,), (2,), (1, 2))]
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
