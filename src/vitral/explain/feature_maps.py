"""The feature maps that a model makes of an image: the patches between the blocks of a ViT, the maps of a CNN.

Axes:  b images   n tokens   d width   gy gx rows, columns
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from vitral.base.errors import UsageError, WatchError
from vitral.base.modes import evaluating
from vitral.recording.apart import Subject, run_apart
from vitral.recording.eager import can_have_hooks
from vitral.recording.forward import run_model
from vitral.recording.indices import Grid
from vitral.recording.layers import Recording
from vitral.recording.places import MOVED
from vitral.recording.stream import first_tensor
from vitral.recording.stream_places import Layout, StreamPlace, tokens_in_layout
from vitral.recording.undisturbed import undisturbed

ALIKE = 0.05  # of the whole way from one image to another: the deviation of places that move alike
MARGIN = 1  # cell: a map that leaves out more on a side is not of the whole image; strides leave out less
PAIRS = 4  # of random images: deep in a CNN, where each place sees most of the image, one pair says too little


@dataclass(frozen=True)
class FeatureMap:
    """Features at one place in a model, named `where`: tokens or a map, whose axes are those of `layout`."""

    where: str
    tensor: Tensor
    grid: Grid
    layout: Layout
    patch_tokens: tuple[int, ...] = ()  # the token of each patch, along rows; empty if these are all, in that order
    in_stream: bool = False  # whether it passes from block to block

    @property
    def patches(self) -> Float[Tensor, "b d gy gx"]:
        """The features of the patches as a map, whatever the layout of the tensor."""
        return self.as_map(self.tensor)

    def as_map(self, tensor: Tensor) -> Float[Tensor, "b d gy gx"]:
        """A tensor of this one's layout, such as its gradient, as a map of patches."""
        tokens = tokens_in_layout(tensor, self.layout)
        patches = tokens[:, list(self.patch_tokens)] if self.patch_tokens else tokens
        return rearrange(patches, "b (gy gx) d -> b d gy gx", gy=self.grid[0])


def stream_maps(recording: Recording, places: Sequence[StreamPlace | None] = ()) -> Iterator[FeatureMap]:
    """What enters each block and leaves the last, except where the places of the patches are not known.

    `places` are those that were measured; without them the tokens of the stream are taken to be those of the layers,
    which holds for Vitral's own models.
    """
    for index, (number, tensor) in enumerate(zip(recording.next_layers, recording.stream)):
        layer = recording.layers[min(number, len(recording.layers) - 1)]
        enters = number < len(recording.layers)
        where = f"entering the block of {recording.name_of(layer)}" if enters else "leaving the last block"
        if places:
            place = places[index] if len(places) == len(recording.stream) else None
            if place is not None:
                yield FeatureMap(where, tensor, place.grid, place.layout, place.patch_tokens, True)
            continue
        try:
            grid, tokens = layer.tokens.grid, layer.tokens
        except (UsageError, WatchError):
            continue  # the tokens of this layer are not known; those of others may be
        patches = grid[0] * grid[1]
        if tensor.ndim == 4 and grid in (tuple(tensor.shape[1:3]), tuple(tensor.shape[2:])):
            layout: Layout = "b ... d" if tuple(tensor.shape[1:3]) == grid else "b d ..."
            yield FeatureMap(where, tensor, grid, layout, in_stream=True)
        elif tensor.ndim == 3 and tensor.shape[1] == patches + len(tokens.prefix):
            yield FeatureMap(where, tensor, grid, "b n d", tokens.patch_tokens, True)
        elif tensor.ndim == 3 and tensor.shape[1] == patches:  # without the tokens that are no patches
            ranks = sorted(tokens.patch_tokens)
            order = tuple(ranks.index(token) for token in tokens.patch_tokens)
            yield FeatureMap(where, tensor, grid, "b n d", order, True)


@contextmanager
def module_maps(model: nn.Module, images: Float[Tensor, "b c y x"], attends: bool = True) -> Iterator[list[FeatureMap]]:
    """Every map of more than one place that a module of the model returns inside the block.

    What is a map, and where its width stands, is measured (`width_axes`): a matrix of attention has four axes, too.
    The results of linear layers and of norms over the last axis are left out: they are steps within a map's making.
    Of a segmentation model those of its encoder are taken: what a decoder makes of them are masks already.
    """
    found: list[FeatureMap] = []
    known = width_axes(model, images, attends)

    def record(name: str, number: int, tensor: Tensor) -> None:
        width_last = known.get((name, number))
        if width_last is not None:
            rows, columns = tensor.shape[1:3] if width_last else tensor.shape[2:]
            found.append(FeatureMap(name, tensor, (rows, columns), "b ... d" if width_last else "b d ..."))

    with each_map(model, record):
        yield found


@contextmanager
def each_map(model: nn.Module, record: Callable[[str, int, Tensor], None]) -> Iterator[None]:
    """Inside it, `record(name, number, tensor)` gets each tensor of four axes that a module returns.

    `number` counts the times that the module has run.
    """
    counts: Counter[str] = Counter()

    def hook(module: nn.Module, args: tuple, output: Any, name: str) -> None:
        tensor = None if isinstance(module, nn.Linear | nn.LayerNorm) else first_tensor(output)
        if tensor is not None and tensor.ndim == 4 and tensor.is_floating_point():
            counts[name] += 1
            record(name, counts[name], tensor)

    within: str = getattr(model, "features_within", "")
    hooks = [
        module.register_forward_hook(partial(hook, name=name))
        for name, module in model.named_modules()
        if name and name.startswith(within) and can_have_hooks(module)
    ]
    try:
        yield
    finally:
        for each in hooks:
            each.remove()


@torch.no_grad()
def width_axes(model: nn.Module, images: Float[Tensor, "b c y x"], attends: bool = True) -> dict[tuple[str, int], bool]:
    """Which results of modules are maps of the image, by name and number: whether the width comes last, or first.

    The model runs on random images A and B, and on A with the upper, then the left half of B. In a map the upper rows
    move towards B's with the upper half, the left columns with the left half. Nothing else does both: not a map that
    is mirrored, turned or shifted. Then it runs on images whose margins alone are B's, which a cropped map does not
    see. Of a model that `attends`, the maps are also measured without its attention.
    """
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, PAIRS, *images.shape[1:], generator=generator).to(images)
    upper, left = a.clone(), a.clone()
    upper[..., : a.shape[2] // 2, :] = b[..., : a.shape[2] // 2, :]
    left[..., : a.shape[3] // 2] = b[..., : a.shape[3] // 2]
    found: dict[tuple[str, int], bool] = {}
    grids: dict[tuple[str, int], Grid] = {}
    shapes: set[tuple[int, ...]] = set()  # of maps that were found, of layers that keep the axes of maps

    def record(name: str, number: int, tensor: Tensor) -> None:
        for width_last in (False, True):
            maps = (tensor.movedim(-1, 1) if width_last else tensor).double()
            if len(maps) != 4 * PAIRS or min(maps.shape[2:]) < 2:
                continue
            seen = orders_of(maps)
            # Deep in a CNN each place sees most of the image, and all move alike: a map if a convolution made its like.
            conv = isinstance(modules[name], nn.Conv2d)
            like_a_map = not width_last and (conv or tensor.shape[1:] in shapes)
            if "in order" in seen and set(seen) <= ({"in order", "alike"} if like_a_map else {"in order"}):
                pass
            elif not (like_a_map and set(seen) == {"alike"}):
                continue
            if not width_last:
                shapes.add(tuple(tensor.shape[1:]))
            found[name, number] = width_last
            grids[name, number] = (maps.shape[2], maps.shape[3])
            return

    modules = dict(model.named_modules())
    with evaluating(model), undisturbed(model):
        with each_map(model, record):
            run_model(model, torch.cat([a, b, upper, left]))
        for grid in set(grids.values()):
            whole_maps = [key for key, own in grids.items() if own == grid]
            for key in set(whole_maps) - seeing_margins(
                model, a[:1], b[:1], {key: found[key] for key in whole_maps}, grid
            ):
                del found[key]
    for key in out_of_order(model, torch.cat([a, b, upper, left]), found) if found and attends else ():
        del found[key]
    return found


def out_of_order(
    model: nn.Module, images: Float[Tensor, "b c y x"], width_last: Mapping[tuple[str, int], bool]
) -> set[tuple[str, int]]:
    """Which of these maps are in another order than the image's, in a run in which each token attends to itself only.

    After attention all places of a map may move alike, as deep in a CNN, though a reshape before it has put the tokens
    into another grid. Here each place moves with its own part of the image. `images` are those of `width_axes`.
    """
    found: set[tuple[str, int]] = set()

    def record(name: str, number: int, tensor: Tensor) -> None:
        if (name, number) not in width_last or len(tensor) != len(images):
            return
        maps = (tensor.movedim(-1, 1) if width_last[name, number] else tensor).double()
        # A map that holds nothing of the image here follows tokens of another kind, whose attention gives zeros.
        if (maps - maps[:1]).any() and "otherwise" in orders_of(maps):
            found.add((name, number))

    with ExitStack() as hooks, suppress(Exception):  # a stranger's model may raise anything
        subject = Subject(model, images, (images,), {})
        run_apart(subject, images, lambda call: None, start=lambda: hooks.enter_context(each_map(model, record)))
    return found


def orders_of(maps: Float[Tensor, "b d y x"]) -> list[Literal["in order", "alike", "otherwise"]]:
    """How the places of a map move with the upper and with the left half of the images of `width_axes`."""
    start, end, *halves = maps.unflatten(0, (4, PAIRS))
    whole = end - start
    moved = [((half - start) * whole).sum(1) / whole.square().sum(1).clamp_min(1e-30) for half in halves]
    return [order_along(each.mean(0), axis) for axis, each in enumerate(moved)]


def seeing_margins(
    model: nn.Module,
    a: Float[Tensor, "1 c y x"],
    b: Float[Tensor, "1 c y x"],
    width_last: Mapping[tuple[str, int], bool],
    grid: Grid,
) -> set[tuple[str, int]]:
    """Which of these maps, all of one grid, change along each side when a part of a cell there does."""
    down, right = (max(1, round(pixels / side * MARGIN)) for pixels, side in zip(a.shape[2:], grid))
    bands = [a.clone() for _ in range(4)]
    for image, band in zip(bands, (np.s_[:down, :], np.s_[-down:, :], np.s_[:, :right], np.s_[:, -right:])):
        image[:, :, *band] = b[:, :, *band]
    found = set()

    def record(name: str, number: int, tensor: Tensor) -> None:
        if (name, number) not in width_last:
            return
        maps = (tensor.movedim(-1, 1) if width_last[name, number] else tensor).double()
        distance = (maps - maps[:1]).norm(dim=1)
        top, bottom, near, far = distance[2:] > MOVED * distance[1].max()
        if top[0].any() and bottom[-1].any() and near[:, 0].any() and far[:, -1].any():
            found.add((name, number))

    with each_map(model, record):
        run_model(model, torch.cat([a, b, *bands]))
    return found


def order_along(moved: Float[Tensor, "y x"], axis: int) -> Literal["in order", "alike", "otherwise"]:
    """How a map's places move with the first half of the image along an axis.

    "in order" if those of the first half do, more than others; "alike" if all of them move by about the same.
    """
    along, across = differences(moved, axis)
    if moved.std() < ALIKE:
        return "alike"
    # By chance, or shifted by half of a half, the halves hardly differ beside what places differ by.
    return "in order" if along > moved.std() and along > 2 * abs(across) else "otherwise"


def differences(moved: Float[Tensor, "y x"], axis: int) -> tuple[float, float]:
    """How much more the first half along an axis moved than the second, and the same along the other axis."""
    along, across = (
        moved.narrow(side, 0, moved.shape[side] // 2).mean()
        - moved.narrow(side, (moved.shape[side] + 1) // 2, moved.shape[side] // 2).mean()
        for side in (axis, 1 - axis)
    )
    return float(along), float(across)
