"""Affine maps of images: rotate, shear, scale and shift, each image by its own matrix.

Axes:  b images   c channels   y x pixels
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from vitral.data.augment import Images, Masks


def warp(images: Images, masks: Masks | None, matrices: Float[Tensor, "b 2 3"]) -> tuple[Images, Masks | None]:
    """Pixel p of the result, measured from the middle as (x, y), shows the image at A p + t, where [A t] is its matrix.

    Bilinear interpolation; places outside the image show the border's nearest pixel, in the masks as well. An image
    whose matrix is the identity stays as it is. Where A enlarges by much more than 1, as in a reduction to less than
    half the size, fine patterns would alias: use a crop, which averages, to reduce.
    """
    height, width = images.shape[-2:]
    scaled = matrices.clone()  # measured in halves of the sides, as grid_sample takes places
    scaled[:, 0, 1] *= height / width
    scaled[:, 1, 0] *= width / height
    scaled[:, 0, 2] *= 2 / width
    scaled[:, 1, 2] *= 2 / height
    moved, moved_masks = images.clone(), None if masks is None else masks.clone()
    changed = (matrices != torch.eye(2, 3)).flatten(1).any(dim=1)
    # One image at a time: what is computed for it stays in the processor's cache, which takes half the time of a batch.
    for index in changed.nonzero().flatten().tolist():
        one = slice(index, index + 1)
        grid = places(scaled[index], height, width)
        moved[one] = sample(images[one].float(), grid, "bilinear").round_()
        if moved_masks is not None and masks is not None:
            moved_masks[one] = sample(masks[one, None].float(), grid, "nearest")[:, 0].to(masks.dtype)
    return moved, moved_masks


def places(matrix: Float[Tensor, "2 3"], height: int, width: int) -> Float[Tensor, "1 y x 2"]:
    """Where each pixel is looked up: `affine_grid` in an eighth of the time, which adds rows and columns."""
    right, down = ((2 * torch.arange(side) + 1) / side - 1 for side in (width, height))
    grid = torch.empty(1, height, width, 2)
    for axis, (across, along, shift) in enumerate(matrix):
        torch.add(right * across, (down * along + shift)[:, None], out=grid[0, :, :, axis])
    return grid


def sample(images: Float[Tensor, "b c y x"], grid: Float[Tensor, "b y x 2"], mode: str) -> Float[Tensor, "b c y x"]:
    return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)


def rotation(radians: Float[Tensor, " b"], zoom: Float[Tensor, " b"]) -> Float[Tensor, "b 2 3"]:
    """Matrices that turn the images anticlockwise by an angle and enlarge them by `zoom`."""
    cos, sin, none = radians.cos() / zoom, radians.sin() / zoom, torch.zeros_like(radians)
    return torch.stack([torch.stack([cos, -sin, none], 1), torch.stack([sin, cos, none], 1)], 1)
