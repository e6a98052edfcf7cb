"""Blend one row of tiles after another into the class of each pixel, keeping only the seams between them.

    row of tiles i - 1   ───────────────────┐
                         seam: kept in a file│ blended with the first rows of tiles i
    row of tiles i       ───────────────────┘  their last rows are the next seam

Within a row, a tile's left seam is blended with the right seam of the tile before. As weights are a product of one
along each axis, blending columns first and rows then gives the weighted sum of all four tiles at a corner.

Axes:  k classes   y x pixels
"""

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from vitral.data.large.tiles import ramp_weights
from vitral.tasks.tiling.plan import TilePlan
from vitral.tasks.tiling.seams import Disagreement

Seam = Float[np.ndarray, "k ramp padded"]


class RowBlender:
    """Takes the tiles of row `row` from left to right, and writes the classes of the pixels that are final then.

    `above` holds the seam to the row before and `below` takes the seam to the row after; both may be memory-mapped.
    `classes` is the result, of the image's size. `disagreement` sums up the seams.
    """

    def __init__(
        self,
        plan: TilePlan,
        row: int,
        above: Seam,
        below: Seam,
        classes: UInt8[np.ndarray, "y x"],
        disagreement: Disagreement,
    ):
        self.plan, self.row, self.disagreement = plan, row, disagreement
        self.above, self.below = torch.from_numpy(above), torch.from_numpy(below)
        self.classes, self.column = classes, 0
        self.left: Tensor | None = None  # the seam of the tile before

    def add(self, logits: Float[Tensor, "k tile_y tile_x"]) -> None:
        """Blend in the next tile; its logits are changed in place."""
        rows, columns = self.plan.rows, self.plan.columns
        top, bottom = rows.counted(self.row)
        left, right = columns.counted(self.column)
        y, x = rows.origins[self.row], columns.origins[self.column]
        counted = logits[:, top - y : bottom - y, left - x : right - x]
        if self.left is not None:
            self.blend(self.left, counted[:, :, : columns.ramp], ramp_weights(columns.ramp))
        if self.column < len(columns.seams):
            right -= columns.ramp
            self.left = counted[:, :, right - left :].clone()
            counted = counted[:, :, : right - left]
        if self.row:
            self.blend(self.above[:, :, left:right], counted[:, : rows.ramp], ramp_weights(rows.ramp)[:, None])
        if self.row < len(rows.seams):
            bottom -= rows.ramp
            self.below[:, :, left:right] = counted[:, bottom - top :]
            counted = counted[:, : bottom - top]
        found = counted.max(0).indices.to(torch.uint8).cpu().numpy()
        inside = self.classes[top:bottom, left:right]  # padding is cut off
        inside[...] = found[: inside.shape[0], : inside.shape[1]]
        self.column += 1

    def blend(self, before: Tensor, after: Tensor, weights: np.ndarray) -> None:
        """Replace `after` by before + weight (after - before): exactly its value where both agree."""
        self.disagreement.add(before, after)
        rising = torch.from_numpy(weights).to(after)
        after.sub_(before).mul_(rising).add_(before)
