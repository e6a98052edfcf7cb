"""Pillow's resizing as two matrix products, so that a graph prepares images as Vitral does.

A resized row is a weighted mean of the row's pixels: a matrix (result, image) holds the weights, of a filter that is
stretched to the scale, cut off at its support, and normalised. Pillow multiplies by it along one side, rounds to whole
grey levels, and then along the other. What exporters make of an antialiased resize has other weights at the borders
(pytorch#177138, #183609).

Axes:  c channels   y x pixels of the image   h w pixels of the result   i pixels of the image along one side
"""

import torch
from jaxtyping import Float
from torch import Tensor

from vitral.base.preprocessing import Interpolation, Preprocessing

SUPPORT: dict[Interpolation, float] = {"nearest": 0.0, "bilinear": 1.0, "bicubic": 2.0}  # pixels, unstretched
CUBIC = -0.5  # the parameter of the cubic filter (Keys 1981)
VERTICAL_FIRST = 13  # Pillow's version from which an image that loses far more rows than columns is resized so


def resized(image: Float[Tensor, "c y x"], preprocessing: Preprocessing, pillow: int) -> Float[Tensor, "c h w"]:
    """The window of an image that a model takes, in the model's size, in whole grey levels of 0 to 255.

    `pillow` is the major version of Pillow whose result this is.
    """
    rows, columns = image.shape[1], image.shape[2]
    height, width = preprocessing.size
    # As tensors, so that a graph computes them anew for each image.
    y, x = (torch.scalar_tensor(side, dtype=torch.float64, device=image.device) for side in (rows, columns))
    down, across = y / height, x / width  # pixels of the image per pixel of the result
    if preprocessing.crop_mode == "center":
        down = across = torch.minimum(down, across)
    # Tensors, too: the exporter rounds a number of Python's to single precision, and `nearest` takes other pixels then.
    half_height, half_width = (
        torch.tensor(preprocessing.crop * side / 2, dtype=torch.float64, device=image.device) * scale
        for side, scale in ((height, down), (width, across))
    )
    window = (y / 2 - half_height).clamp_min(0), torch.minimum(y, y / 2 + half_height)
    vertical = weights(rows, *window, height, preprocessing.interpolation)
    window = (x / 2 - half_width).clamp_min(0), torch.minimum(x, x / 2 + half_width)
    horizontal = weights(columns, *window, width, preprocessing.interpolation).T
    if pillow < VERTICAL_FIRST:
        return columns_first(image, vertical, horizontal)
    loses_more_rows = (y > height) & (y - height > 2 * (x - width))
    found: Tensor = torch.cond(loses_more_rows, rows_first, columns_first, (image, vertical, horizontal))
    return found


def columns_first(
    image: Float[Tensor, "c y x"], vertical: Float[Tensor, "h y"], horizontal: Float[Tensor, "x w"]
) -> Float[Tensor, "c h w"]:
    return levels(vertical @ levels(image @ horizontal))


def rows_first(
    image: Float[Tensor, "c y x"], vertical: Float[Tensor, "h y"], horizontal: Float[Tensor, "x w"]
) -> Float[Tensor, "c h w"]:
    return levels(levels(vertical @ image) @ horizontal)


def levels(values: Tensor) -> Tensor:
    """Whole grey levels: the cubic filter goes beyond black and white."""
    return values.round().clamp(0, 255)


def weights(
    count: int, start: Float[Tensor, ""], end: Float[Tensor, ""], size: int, interpolation: Interpolation
) -> Float[Tensor, "_ i"]:
    """The weights of `count` pixels in each of `size` that share the window from `start` to `end`; (size, count)."""
    # Pillow keeps the window in single precision, and computes in double precision with it.
    start, end = start.float().double(), end.float().double()
    scale = (end - start) / size
    places = torch.arange(count, dtype=torch.float64, device=start.device)
    if interpolation == "nearest":
        # The sum that Pillow forms step by step: a product would round to another pixel now and then.
        centres = torch.cat([(start + scale * 0.5)[None], scale[None].expand(size - 1)]).cumsum(0)
        return (centres.floor()[:, None] == places).float()
    centres = (start + (torch.arange(size, dtype=torch.float64, device=start.device) + 0.5) * scale)[:, None]
    stretched = scale.clamp_min(1.0)
    support = SUPPORT[interpolation] * stretched
    inside = (places >= (centres - support + 0.5).floor().clamp_min(0)) & (
        places < (centres + support + 0.5).floor().clamp_max(count)
    )
    found = filtered((places + 0.5 - centres) / stretched, interpolation) * inside
    return (found / found.sum(dim=1, keepdim=True)).float()


def filtered(distance: Float[Tensor, "_ i"], interpolation: Interpolation) -> Float[Tensor, "_ i"]:
    """The filter at these distances from its centre, in pixels of the result."""
    x = distance.abs()
    if interpolation == "bilinear":
        return (1 - x).clamp_min(0)
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * CUBIC
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
