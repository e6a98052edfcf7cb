"""Finds what each token of a model is while it runs: CLS, register, or the patch at a row and column.

Measured for any model that is called with images (`recording.probes`). Vitral's own models state it; so may others, by
`grid` and `num_prefix_tokens`, where nothing can be measured; and the caller may give the number of tokens before the
patches. A token that is no patch is called CLS only if the model says so: by a learned token of such a name, or by its
`num_prefix_tokens`.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitral.recording.calls import Call, Grouping
from vitral.recording.deduced_roles import MOST_PREFIX_TOKENS, find_roles, states
from vitral.recording.indices import Grid
from vitral.recording.places import Found, Places, Unplaced
from vitral.recording.probes import is_known
from vitral.recording.refusals import (
    refuse_batch,
    refuse_batch_size,
    refuse_channels,
    refuse_channels_last,
    refuse_content,
    refuse_crop,
    refuse_given,
    refuse_groups,
    refuse_quantised,
    refuse_reordered,
    refuse_sampled,
    refuse_unmeasured,
    refuse_unseen,
    refuse_unsettled,
    refuse_views,
    refuse_window_tokens,
)
from vitral.recording.token_roles import TokenRoles, measured_roles
from vitral.recording.windows import Windows, WindowTracker

# How far the tokens of two calls move apart, on average, if they are others; measured for heads 0.26, for windows 0.9.
OTHER_TOKENS = 0.5
CHANNELS = (1, 3, 4)  # of an image: grey, colours, colours and transparency


class RoleFinder:
    """Follows a model's run and finds, for each call of attention, what its tokens are and where they stand."""

    def __init__(self, model: nn.Module, num_prefix_tokens: int | None):
        self.model, self.num_prefix_tokens = model, num_prefix_tokens
        self.patch_grid: Grid | None = None
        self.image_size: Grid | None = None
        self.batch = 0
        self.places: tuple[Found, ...] = ()  # of each call, as they were measured
        self.num_calls = 0
        self.group = 0  # of successive calls whose tokens move alike, though their places are not known
        self.asks_itself: bool | None = None  # whether the queries of the last call are its keys, if that was measured
        self.current: tuple[Any, ...] | None = None  # what the tokens of the last call stand for, if it was measured
        self.is_known, self.is_measured = is_known(model), False  # the latter: images were given, to change patches of
        self.is_channels_last = False  # the images given are (B, H, W, C)
        self.takes_tokens = False  # whether the model was given sequences, and no images
        self.windows = WindowTracker()

    def start(self, places: tuple[Found, ...], images: Tensor) -> None:
        """The model begins to run on these images, whose tokens were measured, or could not be."""
        self.places, self.num_calls, self.is_measured = places, 0, True
        self.windows.finds_whole = not all(isinstance(found, Places) for found in places) or not places
        self.batch, self.image_size = len(images), (images.shape[-2], images.shape[-1])
        self.is_channels_last = images.shape[-1] in CHANNELS and images.shape[1] not in CHANNELS

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

    @property
    def follows_content(self) -> bool:
        """Whether the tokens of the given images are others than those of random ones."""
        return any(isinstance(found, Places) and found.follows_content for found in self.places)

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
        # Of windows whose places are not known, those of this call may be others than those of the call before.
        if isinstance(found, Unplaced):
            self.group += len(call.values) != self.batch or not holds_the_same(found, self.places[number - 1])
            self.current = (self.group,)
        if self.is_alone:
            return call, None, partial(refuse_batch_size, layer, self.batch)
        if self.follows_content:
            return call, None, partial(refuse_content, layer)
        if isinstance(found, Places) and found.are_reordered:
            return call, None, partial(refuse_reordered, layer)
        if isinstance(found, Places) and found.are_sampled:
            return call, None, partial(refuse_sampled, layer)
        if self.is_cropped:
            return call, None, partial(refuse_crop, layer)
        if isinstance(found, Places) and found.are_views:
            return call, None, partial(refuse_views, layer)
        if isinstance(found, Places) and 0 < found.num_seen < math.prod(found.grid):
            return call, None, partial(refuse_unseen, layer, found)
        if places is None or (grouping := self.grouping(call, places)) is None:
            if isinstance(found, Unplaced):
                call = self.with_heads_inside(call, found)
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
        # Padding is on the sides of the image: some window is without. A token for each window is no padding.
        others = (units < 0).sum(1)
        if grouping.windows > 1 and bool(others.all() or (others.any() and call.num_queries != call.num_keys)):
            return call, None, partial(refuse_window_tokens, layer, grouping.windows, int(others.max()))
        if grouping.windows > 1:
            rows, columns = places.grid
            windows = Windows(places.grid, units)
            source = "measured: the window in which each patch of the image changes a token"
            return call, windows, lambda: TokenRoles((), rows * columns, places.grid, source)
        return call, None, partial(measured_roles, self.model, units[0], places)

    def with_heads_inside(self, call: Call, found: Unplaced) -> Call:
        """The call with heads on their own axis, where they stood outside of the windows: (b, heads, windows, n, e)."""
        count, inside = call.values.shape[:2]
        outside = count // self.batch if self.batch and count % self.batch == 0 else 1
        fits = found.share.shape[1] == outside * inside and min(outside, inside) > 1
        if not fits or not found.heads_are_outside(inside):
            return call
        order = tuple(unit * inside + window for window in range(inside) for unit in range(outside))
        return call.grouped(Grouping(1, self.batch, outside, inside, order, inside))

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
            if self.is_channels_last:
                return None, partial(refuse_channels_last, layer)
            if self.is_measured and is_quantised(self.model):
                return None, partial(refuse_quantised, layer)
            return None, partial(refuse_unsettled if self.is_measured else refuse_unmeasured, layer, call.num_keys)
        return None, partial(find_roles, self.model, call.num_keys, self.patch_grid, self.image_size, number)


def holds_the_same(found: Unplaced, before: Found) -> bool:
    """Whether the tokens of two calls moved alike, as those of two heads do, and those of two windows do not."""
    if not isinstance(before, Unplaced) or before.share.shape[::2] != found.share.shape[::2]:
        return False
    own, other = (one.share.mean((1, 2)) for one in (found, before))
    return float((own - other).abs().max()) < OTHER_TOKENS


def is_quantised(model: nn.Module) -> bool:
    """Whether PyTorch has replaced modules of a model by some that compute in whole numbers."""
    return any(type(module).__module__.startswith("torch.ao.nn") for module in model.modules())
