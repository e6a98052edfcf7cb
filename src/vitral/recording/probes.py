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

import hashlib
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from vitral.base.modes import evaluating
from vitral.recording.calls import Call
from vitral.recording.eager import EAGER
from vitral.recording.indices import Grid
from vitral.recording.operators import name_of
from vitral.recording.recognizer import Operators, Recognizer
from vitral.recording.undisturbed import undisturbed
from vitral.recording.windows import Windows

MOVED = 1e-3  # of the largest distance: a token that moved less holds no image
CLEAR = 0.02  # how far a token of one patch may be from all or nothing, in half precision
AGREEMENT = 0.85  # of bits, for tokens that see more than one patch, with the order that they are taken to have
FINEST = 256  # rows or columns of a map whose places are told apart
SPREAD_BESIDE, SPREAD = 0.05, 0.3  # how far units may differ that are heads; measured 0.02 and 0.22, windows 0.1 to 1
CONTRAST = 0.3  # the least difference that a bit makes, on average, to tokens that see more than one patch
FEWEST = 4  # tokens that see more than one patch, of which an order can be told
MOST_PREFIX_TOKENS = 16


@dataclass(frozen=True)
class Places:
    """The patch of each key token of the first attention, by rows of `grid`; -1 for tokens that hold no image.

    `patches` has a row for each unit of an image, in the order in which the call has them: units before the images in
    the batch axis (`outer` of them), after (`inner`), then those of the axis of heads. `exact` is whether every token
    sees one patch only. `batch_axis` is "batch", "heads" or "keys": where the images of a batch are. `is_alone` is
    whether that holds for one image at a time, and this is a batch of several.
    """

    grid: Grid
    patches: Int[Tensor, "u m"]
    outer: int
    inner: int
    batch_axis: str
    exact: bool
    is_alone: bool = False


@dataclass(frozen=True)
class Unplaced:
    """How far the tokens of a call moved towards B in each mixture, (bits, units, tokens), where that spells no place.

    Units are windows, image by image, and then heads. Enough to check a place that is known from elsewhere.
    """

    grid: Grid
    share: Float[Tensor, "k u m"]

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


class Reached(Exception):
    """The first attention was reached, which is all that was wanted. A model that catches it runs on, to no harm."""


class Unfused(TorchFunctionMode):
    """Changes nothing, but where any mode of functions is active PyTorch leaves out its fused encoder layers."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Subject:
    """A model, and the arguments that it was called with, of which `images` are one."""

    model: nn.Module
    images: Float[Tensor, "b c y x"]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    fixed_batch: int = 0  # how many images it takes in a batch, if it takes no other number

    def run(self, images: Float[Tensor, "b c y x"]) -> Any:
        """Call the model in the same way with other images. Other tensors with a row for each image keep the first."""

        def exchange(value: Any) -> Any:
            if value is self.images:
                return images
            if isinstance(value, Tensor) and value.shape[:1] == self.images.shape[:1]:
                return value[:1].expand(len(images), *value.shape[1:])
            return value

        args, kwargs = tree_map(exchange, (self.args, self.kwargs))
        return self.model(*args, **kwargs)

    @property
    def others(self) -> list[Tensor]:
        """The tensors besides the images that may say what the tokens are, such as the numbers of those that are kept.

        One number for each image, a label, does not.
        """
        values = tree_leaves((self.args, self.kwargs))
        return [one for one in values if isinstance(one, Tensor) and one is not self.images and one.ndim > 1]

    @property
    def treats_images_alike(self) -> bool:
        """Whether these tensors are the same for each image of the batch."""
        own = [one for one in self.others if len(one) == len(self.images)]
        return all(torch.equal(one, one[:1].expand_as(one)) for one in own)

    @property
    def key(self) -> tuple[str, ...]:
        """What the places depend on besides the model: the size of the images, and the other arguments."""
        values = tree_leaves((self.args, self.kwargs))
        plain = [repr(one) for one in values if not isinstance(one, Tensor)]
        tensors = [hashlib.sha256(one[:1].detach().cpu().numpy().tobytes()).hexdigest() for one in self.others]
        return (str(tuple(self.images.shape[1:])), *plain, *tensors)


def first_call(subject: Subject, images: Float[Tensor, "b c y x"], grids: list[Grid]) -> Call | None:
    """The first call of attention that a model makes for images; `grids` gets the sizes of the maps before it."""
    found: list[Call] = []

    def stop(call: Call) -> None:
        found.append(call)
        raise Reached

    with suppress(Reached):
        run_apart(subject, images, stop, grids)
    return next(iter(found), None)


def run_apart(
    subject: Subject, images: Float[Tensor, "b c y x"], visit: Callable[[Call], None], grids: list[Grid] | None = None
) -> None:
    """Run a model in which each token attends to itself only, and show each call of attention.

    So no token learns of another: each holds what it held before, and its place can be measured in every layer. Where
    queries and keys are different tokens, the call returns zeros.
    """
    if not subject.fixed_batch:
        run_together(subject, images, visit, grids, seed=len(images))
        return
    others = torch.zeros_like(subject.images[: subject.fixed_batch - 1], dtype=images.dtype)
    runs: list[list[Call]] = []
    for number, image in enumerate([torch.zeros_like(images[:1]), *images.split(1)]):
        runs.append([])
        with suppress(Exception):  # what comes after the last attention does not matter
            batch = torch.cat([image, others])
            run_together(subject, batch, runs[-1].append, grids, seed=number + len(images))
    for calls in zip(*runs):
        visit(replace(calls[0], values=of_first_image([call.values for call in calls], subject.fixed_batch)))


def of_first_image(values: Sequence[Float[Tensor, "b h m e"]], images: int) -> Float[Tensor, "b2 h2 m e"]:
    """The values of the first of several images, in several runs that differ in this image only, as if they were those
    of a batch that has an image for each run but the first.

    The units that differ are that image's. Where they are no such units of a batch, the values of one run.
    """
    blank, *runs = values
    differs = (runs[0] != blank).any(dim=(2, 3))
    for axis in (0, 1):
        length = blank.shape[axis] // images
        for inner in divisors(length) if length * images == blank.shape[axis] else []:
            layout = (length // inner, images, inner)
            split = differs.movedim(axis, 0).unflatten(0, layout)
            if bool(split[:, 0].all()) and not bool(split[:, 1:].any()):
                own = [run.movedim(axis, 0).unflatten(0, layout)[:, 0] for run in runs]
                return torch.stack(own, dim=1).flatten(0, 2).movedim(0, axis)
    return runs[0]


def run_together(
    subject: Subject,
    images: Float[Tensor, "b c y x"],
    visit: Callable[[Call], None],
    grids: list[Grid] | None,
    seed: int,
) -> None:
    """See `run_apart`; all images in one batch."""
    recognizer = Recognizer(subject.model)

    def see(operator: Any, args: Sequence[Any], kwargs: dict[str, Any], result: Any) -> Any:
        seen = recognizer.recognize(operator, args, kwargs, result)
        if seen is None:
            if grids is not None and name_of(operator) == "convolution" and result.ndim == 4:
                grids.append((result.shape[2], result.shape[3]))
            return result
        with operators.paused():
            visit(seen.call)
            own = seen.call.num_queries == seen.call.num_keys and not seen.is_cross
            out = seen.call.output_of(seen.call.values) if own else torch.zeros_like(seen.call.out)
            recognizer.dataflow.note([seen.call.out], out)  # it depends on the same
        return (out, *result[1:]) if isinstance(result, tuple) else out

    with ExitStack() as stack:
        stack.enter_context(evaluating(subject.model))
        stack.enter_context(undisturbed(subject.model))
        # Another seed for each run: of a model that draws its tokens at random no two agree.
        torch.default_generator.manual_seed(seed)
        stack.enter_context(torch.no_grad())
        stack.enter_context(EAGER)
        operators = stack.enter_context(Operators(see))
        stack.enter_context(Unfused())
        stack.enter_context(suppress(Reached))
        subject.run(images)


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
        one_window = len({tuple(row) for row in places.patches.tolist()}) == 1
        if places.batch_axis == "keys":
            return (places,)
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


def unplaced(alone: Tensor, together: Tensor, grid: Grid) -> Unplaced | None:
    """How tokens moved whose places were not found; None unless the images stand in the batch, each as a whole."""
    num_images = 1 + len(grid_bits(grid))
    if together.shape != (len(alone) * num_images, *alone.shape[1:]) or not together.isfinite().all():
        return None
    bits = list(range(num_images - 1))
    movement = Movement.of(alone.double().flatten(0, 1), together.double(), num_images, len(alone), bits)
    return Unplaced(grid, movement.share)


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


def decode(alone: Float[Tensor, "b h m e"], together: Float[Tensor, "b2 h2 m e"], grid: Grid) -> Places | None:
    """The places that explain the values of a call for one image and for a batch of mixtures; None if none do.

    On this grid, or on a coarser one: where a token was merged of 2 x 2 patches, all of them share their bits but the
    lowest two, which for a Gray code leaves the code of the coarser grid.
    """
    before, after = alone.double(), together.double()
    num_images = 1 + len(grid_bits(grid))
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
    length = len(before)
    best: tuple[float, Places] | None = None
    for coarse, kept in coarser(grid):
        # Another order of units and images compares tokens that have nothing to do with each other.
        movements = (Movement.of(start, after, num_images, inner, kept) for inner in divisors(length))
        movement = min(movements, key=lambda one: one.fault)
        inner, unit_axis = movement.inner, ("batch", "heads")[axis]
        if (patches := spelled_exactly(movement, coarse)) is not None:
            return Places(coarse, patches, length // inner, inner, unit_axis, exact=True)
        found = spelled_mostly(movement, coarse)
        if found is not None and same_for_all(movement, kept, length > 1) and (best is None or found[0] > best[0]):
            best = found[0], Places(coarse, found[1], length // inner, inner, unit_axis, exact=False)
    return None if best is None else best[1]


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


def spelled_exactly(movement: Movement, grid: Grid) -> Int[Tensor, "u m"] | None:
    """The patch that the bits of each token spell, -1 for none, where every token sees one patch only; else None."""
    code = grid_bits(grid).to(movement.share.device)  # (k, g)
    share, holds = movement.share, movement.holds
    bits = share > 0.5
    if not bool(((share - bits.double()).abs()[:, holds] < CLEAR).all()):
        return None
    agree = (bits[:, :, :, None] == code[:, None, None]).sum(0)  # (u, m, g): how many bits are those of each patch
    nearest, patch = agree.max(-1)
    patch = torch.where(holds, patch, -1)
    each_once = all(len(set(own := row[row >= 0].tolist())) == len(own) for row in patch)
    counts = torch.bincount(patch[patch >= 0], minlength=math.prod(grid))
    known = bool((nearest[holds] == len(code)).all()) and bool((counts == counts[0]).all()) and bool(counts[0])
    return patch if known and each_once else None


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
        if agreement >= AGREEMENT and contrast.min() >= CONTRAST and (best is None or contrast.min() > best[0]):
            best = float(contrast.min()), patches
    return best
