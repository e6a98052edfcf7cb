"""Measure what the tokens of a model stand for: which patch of the image, in which window, of which image of a batch.

Two random images A and B are mixed patch by patch: in the k-th mixture a patch is B's where the k-th bit of its row or
column is 1. The model runs on A, and on B and the mixtures as a batch, up to its first attention, and nothing is asked
but how far the values of each token moved from A's towards B's. A token of one patch moves all the way or not at all,
so its bits spell the patch; one that does not move holds no image: CLS, a register, padding. Where patches overlap, the
bits are those of most of what the token sees. Neighbouring rows differ in one bit (a Gray code), so that a token on an
edge may be wrong by one row at most.

The two batches have 1 and 1 + K images, so the axis that grew holds the images. For a grid of gy x gx patches that is
2 + ⌈log2 gy⌉ + ⌈log2 gx⌉ images. Then the order of the tokens is checked in every layer (`stay_in_place`), or each
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
from vitral.recording.calls import Call
from vitral.recording.indices import Grid
from vitral.recording.places import MOVED, Found, Places, decode, grid_bits, over_batch, unplaced

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
    for grid in candidates(max(alone.num_keys, alone.num_queries), units, grids, size):
        together = first_call(subject, mixtures(a, b, grid), [])
        places = None if together is None else decode(alone.values, together.values, grid)
        if places is None:
            continue
        if places.batch_axis == "keys":
            return (places,)
        if not (places.exact and min(places.grid) > 2) and not sees_margins(subject, a, b, places):
            return (replace(places, is_cropped=True),)
        one_window = len({tuple(row) for row in places.patches.tolist()}) == 1
        if one_window and (number := stay_in_place(subject, a, b, places)):
            return (places,) * number
        grids.append(grid)
        coarsest = places.grid
        break
    # Each layer has tokens of its own: of the finest map that all of them may be merged from.
    finer = [grid for grid in grids if grid[0] % coarsest[0] == 0 == grid[1] % coarsest[1] and max(grid) <= FINEST]
    found = measure_layers(subject, a, b, max(finer, key=math.prod)) if finer else ()
    return found if any(found) else ()


def mixtures(a: Tensor, b: Tensor, grid: Grid) -> Float[Tensor, "k c y x"]:
    """The image b, and the mixtures of a and b whose bits spell the patches of a grid."""
    masks = bit_masks(grid, (a.shape[2], a.shape[3])).to(a.device)
    return torch.cat([b, torch.where(masks[:, None], b, a)])


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


def stay_in_place(subject: Subject, a: Tensor, b: Tensor, places: Places) -> int:
    """How many calls of attention a model makes, if all of them have the tokens of the first in the same order; else 0.

    Seen in a single mixture: a patch is B's or A's by chance, so that an order in which other tokens move is another.
    """
    if not places.exact:
        return 0
    rows, columns = places.grid
    chosen = torch.rand(rows, columns, generator=torch.Generator().manual_seed(1)) < 0.5
    row, column = (torch.arange(pixels) * side // pixels for side, pixels in zip(places.grid, a.shape[2:]))
    mixture = torch.where(chosen[row[:, None], column].to(a.device), b, a)
    moved: list[Tensor | None] = []

    def compare(call: Call) -> None:
        values = by_image(call.values, 2, places)
        if values is None:
            moved.append(None)
            return
        distance = (values[1] - values[0]).norm(dim=-1)
        moved.append(distance > MOVED * distance.max())

    with suppress(Exception):  # what comes after the last attention does not matter
        run_apart(subject, torch.cat([a, mixture]), compare)
    first = moved[0] if moved else None
    same = first is not None and all(one is not None and torch.equal(one, first) for one in moved)
    return len(moved) if same else 0


def by_image(values: Float[Tensor, "b h m e"], images: int, places: Places) -> Float[Tensor, "i u m e"] | None:
    """The values of a call with one axis for the images and one for the units of each; None for other units."""
    values = values.transpose(0, 1) if places.batch_axis == "heads" else values
    outer, inner = places.outer, places.inner
    if values.shape[0] != outer * images * inner:
        return None
    units = values.unflatten(0, (outer, images, inner)).movedim(1, 0).flatten(1, 3)
    return units.double() if units.shape[1:3] == places.patches.shape else None


def measure_layers(subject: Subject, a: Tensor, b: Tensor, grid: Grid) -> tuple[Found, ...]:
    """The places of the tokens of every layer, on this grid or a coarser one; None for layers that are not settled."""
    alone: list[Tensor] = []
    places: list[Found] = []
    with suppress(Exception):
        run_apart(subject, a, lambda call: alone.append(call.values))

    def compare(call: Call) -> None:
        before = alone[len(places)] if len(places) < len(alone) else None
        places.append(
            None if before is None else decode(before, call.values, grid) or unplaced(before, call.values, grid)
        )

    with suppress(Exception):
        run_apart(subject, mixtures(a, b, grid), compare)
    return tuple(places)


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
