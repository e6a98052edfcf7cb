"""What each token of a model is: CLS, register, or the patch at a row and column; measured, stated or given.

Measured for any model that is called with images (`recording.probes`). Vitral's own models state it; so may others, by
`grid` and `num_prefix_tokens`, where nothing can be measured; and the caller may give the number of tokens before the
patches. A token that is no patch is called CLS only if the model says so: by a learned token of such a name, or by its
`num_prefix_tokens`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int, Shaped
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.recording.calls import Call, Grouping
from vitral.recording.indices import Grid
from vitral.recording.places import Found, Places, Unplaced
from vitral.recording.prefix_tokens import learned_tokens, numbered, prefix_names
from vitral.recording.probes import is_known
from vitral.recording.windows import Windows, WindowTracker

MOST_PREFIX_TOKENS = 16


@dataclass(frozen=True)
class TokenRoles:
    """The names of the tokens that are no patches, the number of patches, and their rows and columns where known.

    `source` states in words how this is known. `order` is the token of each patch, along rows; where it is empty the
    patches follow the others in that order.
    """

    prefix: tuple[str, ...]
    num_patches: int
    known_grid: Grid | None
    source: str
    order: tuple[int, ...] = ()

    @property
    def grid(self) -> Grid:
        """Rows and columns of patches. Raises `WatchError` if they are not known."""
        if self.known_grid is None:
            raise WatchError(
                f"{self.num_patches} patches form neither a square grid nor one with the image's aspect ratio. "
                "Set `grid` = (rows, columns) and `num_prefix_tokens` on the model."
            )
        return self.known_grid

    @property
    def has_cls(self) -> bool:
        return self.prefix[:1] == ("cls",)

    @property
    def patch_tokens(self) -> tuple[int, ...]:
        """The token of each patch, along rows."""
        return self.order or tuple(range(len(self.prefix), len(self.prefix) + self.num_patches))

    @property
    def other_tokens(self) -> tuple[int, ...]:
        """The tokens that are no patches: CLS, registers."""
        patches = set(self.patch_tokens)
        return tuple(token for token in range(len(self.prefix) + self.num_patches) if token not in patches)

    def patches(self, values: Shaped[Tensor, "*b n"]) -> Shaped[Tensor, "*b g"]:
        """The values of the patches, along rows, of one value per token."""
        return values[..., list(self.order)] if self.order else values[..., len(self.prefix) :]

    def others(self, values: Shaped[Tensor, "*b n"]) -> Shaped[Tensor, "*b p"]:
        """The values of the tokens that are no patches, of one value per token."""
        return values[..., list(self.other_tokens)] if self.order else values[..., : len(self.prefix)]

    @property
    def names(self) -> tuple[str, ...]:
        """`cls`, `register 0`, ..., `patch 0 0`, ... by token: row and column, or a number without a grid."""
        columns = self.known_grid[1] if self.known_grid else 0
        names = dict(zip(self.other_tokens, self.prefix))
        for patch, token in enumerate(self.patch_tokens):
            names[token] = f"patch {patch // columns} {patch % columns}" if columns else f"patch {patch}"
        return tuple(names[token] for token in range(len(names)))


class RoleFinder:
    """Follows a model's run and finds, for each call of attention, what its tokens are and where they stand."""

    def __init__(self, model: nn.Module, num_prefix_tokens: int | None):
        self.model, self.num_prefix_tokens = model, num_prefix_tokens
        self.patch_grid: Grid | None = None
        self.image_size: Grid | None = None
        self.batch = 0
        self.places: tuple[Found, ...] = ()  # of each call, as they were measured
        self.num_calls = 0
        self.asks_itself: bool | None = None  # whether the queries of the last call are its keys, if that was measured
        self.current: tuple[Any, ...] | None = None  # what the tokens of the last call stand for, if it was measured
        self.is_known, self.is_measured = is_known(model), False  # the latter: images were given, to change patches of
        self.takes_tokens = False  # whether the model was given sequences, and no images
        self.windows = WindowTracker()

    def start(self, places: tuple[Found, ...], images: Tensor) -> None:
        """The model begins to run on these images, whose tokens were measured, or could not be."""
        self.places, self.num_calls, self.is_measured = places, 0, True
        self.windows.finds_whole = not all(isinstance(found, Places) for found in places) or not places
        self.batch, self.image_size = len(images), (images.shape[-2], images.shape[-1])

    @property
    def is_over_batch(self) -> bool:
        """Whether the model attends over the images of a batch."""
        first = self.places[0] if len(self.places) == 1 else None
        return isinstance(first, Places) and first.batch_axis == "keys"

    @property
    def is_alone(self) -> bool:
        """Whether the tokens of each image are known in a batch of one only, and this is none."""
        return any(isinstance(found, Places) and found.is_alone for found in self.places)

    @property
    def is_cropped(self) -> bool:
        """Whether the model does not see a margin of the image."""
        return any(isinstance(found, Places) and found.is_cropped for found in self.places)

    def note(self, func: Any, args: tuple, kwargs: dict[str, Any], result: Any, before_attention: bool) -> None:
        """Look at one function call that is not attention."""
        if func is F.conv2d or func is torch.conv2d:
            images, weight = (
                args[at] if len(args) > at else kwargs[name] for at, name in enumerate(("input", "weight"))
            )
            self.note_projection(images, result, weight, before_attention)
        # Models without a patch convolution (they unfold, or reshape): the first tensor of four axes is the images.
        first = args[0] if args else kwargs.get("input")
        if not self.batch and isinstance(result, Tensor) and isinstance(first, Tensor) and first.ndim == 4:
            self.batch = len(first)
            # Of sequences it is the queries, which have no height and width.
            self.image_size = None if self.takes_tokens else (first.shape[-2], first.shape[-1])
        if self.batch:
            self.windows.note(func, args or (first,), kwargs, result, self.batch)

    def note_projection(self, images: Tensor, result: Tensor, weight: Tensor, before_attention: bool) -> None:
        """Remember the last convolution before any attention that cuts its input into patches: it gives the grid."""
        height, width = weight.shape[-2:]
        grid = (images.shape[-2] // height, images.shape[-1] // width)
        if before_attention and height > 1 and tuple(result.shape[-2:]) == grid:
            self.patch_grid = grid
            if not self.is_measured:  # else these may be several views of each image
                self.batch, self.image_size = len(images), (images.shape[-2], images.shape[-1])

    def place(self, call: Call, layer: str) -> tuple[Call, Windows | None, Callable[[], TokenRoles]]:
        """The call with images, windows and heads on axes of their own; its windows; and what gives its roles."""
        number, self.num_calls = self.num_calls, self.num_calls + 1
        self.current = None
        if self.is_over_batch and call.num_keys == self.batch:
            return call, None, partial(refuse_batch, layer)
        found = self.places[number] if number < len(self.places) else None
        given = self.num_prefix_tokens
        if isinstance(found, Places) and given is not None and not found.allows_prefix(given):
            return call, None, partial(refuse_given, layer, given, found)
        places = found if isinstance(found, Places) and given is None else None
        self.asks_itself = found.asks_itself if isinstance(found, Places) else None
        self.current = None if places is None else (places.grid, *map(tuple, places.patches.tolist()))
        if self.is_alone:
            return call, None, partial(refuse_batch_size, layer, self.batch)
        if self.is_cropped:
            return call, None, partial(refuse_crop, layer)
        if isinstance(found, Places) and found.are_views:
            return call, None, partial(refuse_views, layer)
        if places is None or (grouping := self.grouping(call, places)) is None:
            call = self.split_heads(call)
            windows = self.windows_of(call)
            supported = windows is not None and isinstance(found, Unplaced) and found.supports(windows)
            return call, *self.roles_of(call, windows if self.is_known or supported else None, layer)
        units = places.patches[list(grouping.order)].unflatten(0, (grouping.windows, -1))[:, 0]
        # A cut that agrees with what was measured knows one thing more: that tokens without a patch are padding.
        tracked = self.windows_of(call)
        if tracked is not None and not tracked.is_whole and tracked.agrees(places.grid, units):
            return call, *self.roles_of(call, tracked, layer)
        if grouping != Grouping(1, self.batch, 1, call.values.shape[1], tuple(range(call.values.shape[1]))):
            call = call.grouped(grouping)
        if grouping.windows > 1 and units[units >= 0].unique().numel() < int((units >= 0).sum()):
            return call, None, partial(refuse_views, layer)
        if grouping.windows > 1:
            rows, columns = places.grid
            windows = Windows(places.grid, units)
            source = "measured: the window in which each patch of the image changes a token"
            return call, windows, lambda: TokenRoles((), rows * columns, places.grid, source)
        return call, None, partial(measured_roles, self.model, units[0], places)

    def grouping(self, call: Call, places: Places) -> Grouping | None:
        """How the units of a call are grouped, if it has those that were measured; else None."""
        units, num_keys = places.patches.shape
        inner, outer, heads = places.inner, places.outer, units // (places.inner * places.outer)
        swapped = places.batch_axis == "heads"
        shape = (heads, outer * self.batch * inner) if swapped else (outer * self.batch * inner, heads)
        if tuple(call.values.shape[:3]) != (*shape, num_keys):
            return None
        kinds: dict[tuple[int, ...], list[int]] = {}  # heads of one window hold the same patches
        for unit, row in enumerate(places.patches.tolist()):
            kinds.setdefault(tuple(row), []).append(unit)
        if len({len(same) for same in kinds.values()}) > 1:
            return None
        order = tuple(unit for same in kinds.values() for unit in same)
        return Grouping(outer, self.batch, inner, heads, order, len(kinds), swapped)

    def split_heads(self, call: Call) -> Call:
        """The call with heads and batch apart, where three-dimensional tensors of all tokens hold the heads in the
        batch."""
        # Windows look the same, (more items, fewer tokens); only as many tokens as the whole image has means heads.
        patches = self.patch_grid[0] * self.patch_grid[1] if self.patch_grid else 0
        all_tokens = patches <= call.num_keys <= patches + MOST_PREFIX_TOKENS and call.num_queries == call.num_keys
        count = call.batch_size
        folded = call.heads_in_batch and self.batch and count != self.batch and count % self.batch == 0
        return call.split_heads(self.batch) if folded and all_tokens else call

    def windows_of(self, call: Call) -> Windows | None:
        """Where the tokens stand, if the call attends within windows: its batch is then a multiple of the model's."""
        count = call.batch_size
        if not self.batch or count % self.batch or call.num_queries != call.num_keys:
            return None
        return self.windows.find(self.batch, count, call.num_keys)

    def roles_of(
        self, call: Call, windows: Windows | None, layer: str
    ) -> tuple[Windows | None, Callable[[], TokenRoles]]:
        """The windows, None for one of the whole image, and a function that gives the roles of the call's tokens, or
        raises what is not known of them.

        The function is kept with the layer, so it must hold no tensor and nothing that holds the layer.
        """
        count, tokens_entering = call.batch_size, self.windows.tokens_entering
        if windows is None and self.batch and count != self.batch:
            return None, partial(refuse_groups, layer, count, self.batch)
        # Attention over channels: as many keys as the width, and another number of tokens entered the projection.
        if call.num_queries == call.num_keys != tokens_entering == call.values.shape[-1]:
            return windows, partial(refuse_channels, layer, call.num_keys, int(tokens_entering))
        if windows is not None:
            rows, columns = windows.grid
            source = "the map of tokens that was cut or flattened"
            roles = TokenRoles((), rows * columns, windows.grid, source)
            return (None if windows.is_whole else windows), lambda: roles
        number = self.num_prefix_tokens
        is_sequence = self.takes_tokens and self.patch_grid is None
        if not (self.is_known or is_sequence) and number is None and not states(self.model, call.num_keys):
            return None, partial(refuse_unsettled if self.is_measured else refuse_unmeasured, layer, call.num_keys)
        return None, partial(find_roles, self.model, call.num_keys, self.patch_grid, self.image_size, number)


def states(model: nn.Module, num_tokens: int) -> bool:
    """Whether a model itself states how many tokens come before which grid of patches, and they are so many."""
    grid, prefix = getattr(model, "grid", None), getattr(model, "num_prefix_tokens", None)
    return grid is not None and prefix is not None and prefix + grid[0] * grid[1] == num_tokens


def refuse_groups(layer: str, count: int, batch: int) -> TokenRoles:
    """Raises `UsageError`: the places of these tokens in the image are not known."""
    raise UsageError(
        f"{layer} attends over {count} sequences for a batch of {batch} images, and these are not windows of an "
        "earlier feature map. The places of its tokens are unknown, so it has no attention map. Choose other "
        "layers: layers=[...]."
    )


def refuse_unsettled(layer: str, num_keys: int) -> TokenRoles:
    """Raises `UsageError`: changing patches of the image did not show what the tokens stand for."""
    raise UsageError(
        f"{layer} attends to {num_keys} tokens whose places in the image are not known: when patches of an image were "
        "changed, no grid of patches explained which tokens changed. So it has no attention map. If the last tokens "
        "are the patches, row by row, set model.num_prefix_tokens = ... (how many tokens come before them) and "
        "model.grid = (rows, columns)."
    )


def refuse_unmeasured(layer: str, num_keys: int) -> TokenRoles:
    """Raises `UsageError`: there were no images whose patches could be changed."""
    raise UsageError(
        f"{layer} attends to {num_keys} tokens whose places in the image are not known: they are measured only when "
        "the model itself, not a part or a method of it, is called with images, a float tensor (B, C, H, W). "
        "Otherwise, if the last tokens are the patches, row by row, specify how many tokens come before them: "
        "num_prefix_tokens=..."
    )


def refuse_views(layer: str) -> TokenRoles:
    """Raises `UsageError`: a patch stands in several groups of tokens, which are views of the image and no windows."""
    raise UsageError(
        f"{layer} sees the same patches in several groups of tokens per image, as when the model puts views of an "
        "image (mirrored, cropped, one per channel) into the batch, or runs several models at once. So it has no "
        "single attention map. Watch a model that takes one view, and give it the views one by one."
    )


def refuse_batch_size(layer: str, batch: int) -> TokenRoles:
    """Raises `UsageError`: the model attends image by image, so the images of a batch are not told apart."""
    raise UsageError(
        f"{layer} attends to one image after another, so its heads and the {batch} images of the batch cannot be "
        "distinguished. Give the model one image at a time."
    )


def refuse_given(layer: str, given: int, places: Places) -> TokenRoles:
    """Raises `UsageError`: the caller's number of tokens before the patches is not what was measured."""
    others = [token for token, patch in enumerate(places.patches[0].tolist()) if patch < 0]
    raise UsageError(
        f"num_prefix_tokens={given} was given, but when patches of an image were changed, the tokens of {layer} that "
        f"did not change were {others or 'none'}. Leave num_prefix_tokens out to use what was measured."
    )


def refuse_crop(layer: str) -> TokenRoles:
    """Raises `UsageError`: the model crops its images, so the grid of its patches is not that of the whole image."""
    raise UsageError(
        f"{layer} attends to patches of only a part of the image: when the margin of an image was changed, no token "
        "next to it changed. Crop the image first, as the model does, and explain the part that it sees."
    )


def refuse_batch(layer: str) -> TokenRoles:
    """Raises `UsageError`: the layer attends over the images of a batch."""
    raise UsageError(
        f"{layer} attends over the images of a batch, not over the patches of an image: it takes (tokens, batch, "
        "width), but is given (batch, tokens, width). Create nn.MultiheadAttention, or the encoder layer, with "
        "batch_first=True, and train the model again."
    )


def measured_roles(model: nn.Module, patches: Int[Tensor, " m"], places: Places) -> TokenRoles:
    """The roles of tokens of which the patch is known, -1 for none. Raises `UsageError` unless each patch is there."""
    number, tokens = places.grid[0] * places.grid[1], patches.tolist()
    if sorted(patch for patch in tokens if patch >= 0) != list(range(number)):
        raise UsageError(
            f"Only {len({patch for patch in tokens if patch >= 0})} of {number} patches change a token, so there is no "
            "attention map."
        )
    order = tuple(tokens.index(patch) for patch in range(number))
    # Where the queries are others than the keys, a learned token may ask and be no key.
    known = places.prefix or (prefix_names(model, len(tokens) - number) if places.asks_itself is not False else ())
    names = known or numbered(len(tokens) - number)
    source = "measured: the token that each patch of the image changes"
    in_order = order == tuple(range(len(names), len(tokens)))
    return TokenRoles(names, number, places.grid, source, () if in_order else order)


def refuse_channels(layer: str, channels: int, tokens: int) -> TokenRoles:
    """Raises `UsageError`: the layer attends over channels (Ding et al. 2022, "DaViT", §3.2), which have no place."""
    raise UsageError(
        f"{layer} attends over the {channels} channels of each head, not over its {tokens} tokens, so it has no "
        "attention map. Choose other layers: layers=[...]."
    )


def find_roles(
    model: nn.Module, num_tokens: int, patch_grid: Grid | None, image_size: Grid | None, given: int | None
) -> TokenRoles:
    """What `num_tokens` tokens are.

    `patch_grid` is the grid of a patch projection and `image_size` the height and width of its input (None if there was
    no projection), `given` the number of prefix tokens that the caller specified.
    Raises `UsageError` if nothing determines them.
    """
    # In this order: the caller, the model itself, the patch projection, learned tokens, the shape of the image.
    num_prefix = getattr(model, "num_prefix_tokens", None) if given is None else given
    grid, source = getattr(model, "grid", None), "the model's own `grid`"
    if grid is None and patch_grid is not None:
        grid, source = patch_grid, "the grid of the patch projection"
    if num_prefix is None and grid is not None and 0 <= num_tokens - grid[0] * grid[1] <= MOST_PREFIX_TOKENS:
        num_prefix = num_tokens - grid[0] * grid[1]
    if num_prefix is None and (learned := sum(token.count for token in learned_tokens(model))):
        num_prefix = learned
    if num_prefix is None:  # no prefix, or a CLS, if the rest forms a grid of the image's shape
        counts = (0, 1) if grid is None else (0,)
        num_prefix = next((count for count in counts if grid_like(num_tokens - count, image_size or grid)), None)
    if num_prefix is None:
        raise UsageError(no_grid_message(num_tokens, grid, source, image_size))
    if num_prefix > num_tokens:
        raise UsageError(f"num_prefix_tokens={num_prefix} is more than the {num_tokens} tokens of the layer.")
    # The model's own grid is of its trained size; another image has another one.
    if grid is None or grid[0] * grid[1] != num_tokens - num_prefix:
        grid = grid_like(num_tokens - num_prefix, image_size)
        source = f"{num_prefix} tokens before the patches, and the patches in a grid of the image's shape"
    if given is not None:
        source = f"num_prefix_tokens={given} as given; {source}"
    return TokenRoles(prefix_names(model, num_prefix), num_tokens - num_prefix, grid, source)


def no_grid_message(num_tokens: int, grid: Grid | None, source: str, image_size: Grid | None) -> str:
    """Why these tokens have no place in the image."""
    shape = f"a grid of the shape of a {image_size[0]} x {image_size[1]} image" if image_size else "a square grid"
    fitting = (
        f"the {grid[0]} x {grid[1]} patches known from {source}, nor {shape}" if grid else f"{shape}, nor one more"
    )
    return (
        f"{num_tokens} tokens are not {fitting}. They may be channels, or patches in an unknown order, so there is no "
        "attention map. If other tokens come before the patches, specify how many: num_prefix_tokens=..."
    )


def grid_like(num_patches: int, image_size: Grid | None) -> Grid | None:
    """Rows and columns in the ratio of the image's sides (square without an image); None if there are none."""
    height, width = image_size or (1, 1)
    rows = math.isqrt(num_patches * height // width)
    fits = rows > 0 and num_patches % rows == 0 and rows * width == num_patches // rows * height
    return (rows, num_patches // rows) if fits else None
