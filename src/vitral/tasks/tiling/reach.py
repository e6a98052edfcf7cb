"""How far around a pixel a segmentation model sees, and how often its grid repeats: both measured, not assumed.

If no pixel's logits depend on anything farther away than a tile's context, and tiles start where the model's grid
(strides, windows) repeats, then a tile gives the same logits as the whole image. The reach is read off the gradient of
logits in the middle of random images: it is exactly zero where a model does not look. That the grid repeats is tested
by shifting the image.

Axes:  b images   c channels   k classes   y x pixels
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.overrides import BaseTorchFunctionMode

from vitral.base.errors import ModelError, VitralError
from vitral.base.modes import evaluating, frozen
from vitral.base.preprocessing import Preprocessing
from vitral.recording.forward import forward
from vitral.recording.recognizer import Operators, Recognizer

LARGEST_PROBE = 512  # pixels of the longer side of the random images
SHIFTS = (1, 2, 4, 7, 8, 14, 16, 28, 32, 56, 64, 112, 128)  # pixels; what strides and windows multiply to
DRAWS = 2  # random images per measurement: a unit that one of them switches off may be on in the other
ALIKE = 1e-5  # of the largest logit: rounding changes less, and the faintest part of a grid that does not repeat more


@dataclass(frozen=True)
class Reach:
    """What tiles must know of a model, in pixels.

    `context` is the distance beyond which nothing changes a pixel's logits; None if it is more than could be measured.
    `alignment` is how often the model's grid repeats. `only_size` is the one size (height, width) that the model takes;
    None if it takes others. `is_global` is whether it attends to more tokens in a larger image, so that each pixel
    depends on all others.
    """

    context: int | None
    alignment: int
    only_size: tuple[int, int] | None = None
    is_global: bool = False


def logits_per_pixel(model: nn.Module, images: Float[Tensor, "b c y x"]) -> Float[Tensor, "b k y x"]:
    """The model's logits. Raises `ModelError` if it does not return one per class and pixel."""
    found = forward(model, images).tensor
    if found.ndim != 4 or found.shape[0] != len(images) or found.shape[2:] != images.shape[2:]:
        raise ModelError(
            f"{type(model).__name__} returned {tuple(found.shape)} for images of shape {tuple(images.shape)}; a "
            "segmentation model returns logits (B, classes, height, width) of the images' height and width."
        )
    return found


def measure_reach(model: nn.Module, preprocessing: Preprocessing) -> Reach:
    """Measure a model on random images of its size, and of multiples of it up to 512 pixels.

    Raises what the model raises for an image of its own size, and `ModelError` if it does not answer for each pixel.
    """
    height, width = preprocessing.size
    channels, device = len(preprocessing.mean), next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    only_size, is_global = None, False
    with evaluating(model), frozen(model):
        for times in (1, 2, 4, 8, 16):
            shape = (height * times, width * times)
            if times > 1 and max(shape) > LARGEST_PROBE:
                break
            images = torch.randn(DRAWS, channels, *shape, generator=generator).to(device)
            try:
                reached = gradient_extent(model, images, 1, generator)
            except VitralError:
                if times == 1:
                    raise
                only_size = preprocessing.size
                break
            if reached is not None and (period := measure_period(model, images)):
                # A branch that is zero, as in a new head, hides its stride, but still needs sides that it divides.
                period = math.lcm(period, stated_period(model, preprocessing, is_fixed=True))
                reached = gradient_extent(model, images, period, generator)
                if reached is not None:
                    context = -(-reached // period) * period
                    if context + period < min(shape):
                        is_whole = tile_is_whole(model, images[:1], context, period)
                        return Reach(context if is_whole else None, period)
            # Larger images would only show the same, at a cost that grows with the square of their pixels.
            elif times == 1 and (is_global := attends_globally(model, images[:1])):
                break
        return Reach(None, stated_period(model, preprocessing, only_size is not None), only_size, is_global)


@torch.no_grad()
def attends_globally(model: nn.Module, images: Float[Tensor, "b c y x"]) -> bool:
    """Whether attention has about four times as many keys in an image of twice the height and width.

    False for a model without attention, and for one that does not take the larger image.
    """
    try:
        small, large = (most_keys(model, images.repeat(1, 1, times, times)) for times in (1, 2))
    except VitralError:
        return False
    return large > 3 * small


def most_keys(model: nn.Module, images: Float[Tensor, "b c y x"]) -> int:
    """The largest number of tokens that a call of attention attends to; 0 for a model without attention."""
    recognizer, keys = Recognizer(model), [0]

    def see(operator: Any, inputs: Sequence[Any], named: dict[str, Any], result: Any) -> Any:
        if (seen := recognizer.recognize(operator, inputs, named, result)) is not None:
            keys.append(seen.call.num_keys)
        return result

    with BaseTorchFunctionMode(), Operators(see):  # the first turns PyTorch's fast path aside, which hides attention
        logits_per_pixel(model, images)
    return max(keys)


def gradient_extent(
    model: nn.Module, images: Float[Tensor, "b c y x"], block: int, generator: torch.Generator
) -> int | None:
    """How far beyond a block of pixels in the middle its logits depend on the image; None if up to its border.

    The block begins at a multiple of its side, so that it is one period of the model's grid.
    """
    rows, columns = [], []
    for image in images.split(1):  # one at a time: gradients take most of the memory of a whole run
        image = image.requires_grad_()
        top, left = (side // 2 // block * block for side in image.shape[2:])
        inside = logits_per_pixel(model, image)[:, :, top : top + block, left : left + block]
        if not inside.requires_grad:  # constant logits, as of a head that is zero
            return 0
        signs = torch.randn(inside.shape, generator=generator).to(inside.device)
        (gradient,) = torch.autograd.grad((inside * signs).sum(), image)
        touched = (gradient[0] != 0).any(0)
        rows.append(touched.any(1))
        columns.append(touched.any(0))
    extent = 0
    for found, first in ((torch.stack(rows).any(0), top), (torch.stack(columns).any(0), left)):
        places = found.nonzero().flatten().tolist()
        if not places:
            continue
        if places[0] == 0 or places[-1] == len(found) - 1:
            return None
        extent = max(extent, first - places[0], places[-1] - (first + block - 1))
    return extent


@torch.no_grad()
def measure_period(model: nn.Module, images: Float[Tensor, "b c y x"]) -> int | None:
    """The smallest shift of the image that shifts the logits in the middle and changes nothing else; None if none is.

    Among `SHIFTS` that are at most a quarter of the image.
    """
    whole = logits_per_pixel(model, images[:1])
    middle = [side // 2 for side in images.shape[2:]]
    half = max(1, min(images.shape[2:]) // 16)
    for shift in SHIFTS:
        if 4 * shift > min(images.shape[2:]):
            return None
        # What enters at the far side stands in for the rest of a larger image; the middle does not see it.
        moved = logits_per_pixel(model, torch.roll(images[:1], (-shift, -shift), (2, 3)))
        y, x = (slice(place - half, place + half) for place in middle)
        y_moved, x_moved = (slice(place - half - shift, place + half - shift) for place in middle)
        difference = (whole[:, :, y, x] - moved[:, :, y_moved, x_moved]).abs().max()
        if difference <= ALIKE * whole.abs().max():
            return shift
    return None


@torch.no_grad()
def tile_is_whole(model: nn.Module, images: Float[Tensor, "b c y x"], context: int, period: int) -> bool:
    """Whether an image that lacks its last or its first rows and columns gives the logits of the whole one.

    Up to the context before the cut. Borders count, too: padding that wraps around reaches the other side.
    """
    whole = logits_per_pixel(model, images)
    height, width = images.shape[2:]
    first = logits_per_pixel(model, images[:, :, : height - period, : width - period])
    last = logits_per_pixel(model, images[:, :, period:, period:])
    y, x = slice(0, height - period - context), slice(0, width - period - context)
    differences = [(whole - F.pad(first, (0, period, 0, period)))[:, :, y, x]]
    differences.append((whole[:, :, period:, period:] - last)[:, :, context:, context:])
    return all(bool((one.abs() <= 10 * ALIKE * whole.abs().max()).all()) for one in differences)


def stated_period(model: nn.Module, preprocessing: Preprocessing, is_fixed: bool) -> int:
    """The period of the grid by the model's own modules, where it cannot be measured: convolutions' strides, windows.

    1 where the modules do not show one that divides the model's size.
    """
    height, width = preprocessing.size
    periods = [1]
    with noting_grids(model, (height, width), periods), evaluating(model), torch.no_grad():
        logits_per_pixel(model, torch.zeros(1, len(preprocessing.mean), height, width, device=device_of(model)))
    period = math.lcm(*periods)
    fits = height % period == 0 and width % period == 0
    return period if fits or not is_fixed else 1


def device_of(model: nn.Module) -> torch.device:
    return next(model.parameters()).device


@contextmanager
def noting_grids(model: nn.Module, size: tuple[int, int], periods: list[int]) -> Iterator[None]:
    """Append the period of each convolution and each module with a `window_size` that runs inside the block."""

    def convolved(module: nn.Module, inputs: Any, output: Any) -> None:
        rows = output.shape[2]
        if size[0] % rows == 0 and size[0] // rows <= size[0] // 4:  # more is a pooled vector, not a grid
            periods.append(size[0] // rows)

    def windowed(module: nn.Module, inputs: Any, output: Any) -> None:
        window: Any = module.window_size
        side = window[0] if isinstance(window, tuple | list) else window
        grid = next((one for one in inputs if isinstance(one, Tensor) and one.ndim == 4), None)
        if not isinstance(side, int) or side < 1 or grid is None:
            return
        for rows, columns in (grid.shape[1:3], grid.shape[2:4]):  # (b, y, x, d), or (b, d, y, x)
            stride = size[0] // rows
            if stride and size[0] % rows == 0 and size[1] == stride * columns:
                periods.append(stride * side)
                return

    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            hooks.append(module.register_forward_hook(convolved))
        if hasattr(module, "window_size"):
            hooks.append(module.register_forward_hook(windowed))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
