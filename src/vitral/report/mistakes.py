"""The wrong answers with the highest probability, each with the attention map of the last block.

Axes:  b images   y x pixels   gy gx rows, columns of patches
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from vitral.report.overlay import add_colour_bar, colour_scale, overlay
from vitral.report.style import FAINT, hide_axes, sheet, styled


@styled
def mistakes_figure(
    pixels: UInt8[np.ndarray, "b y x 3"], titles: Sequence[str], maps: Float[np.ndarray, "b gy gx"] | None
) -> Figure:
    """The images in a row, and below each its map (mean of the heads), if there are maps; one scale for all maps."""
    count, rows = len(pixels), 1 if maps is None else 2
    figure = sheet(1.28 * count + 0.7, 1.38 * rows + 0.55)
    grid = figure.add_gridspec(rows, count + 1, width_ratios=[1] * count + [0.07])
    for index in range(count):
        axes = figure.add_subplot(grid[0, index])
        axes.imshow(pixels[index])
        axes.set_title(titles[index], fontsize=7.5)
        hide_axes(axes)
    if maps is not None:
        norm = colour_scale(maps)
        for index in range(count):
            axes = figure.add_subplot(grid[1, index])
            drawn_map = overlay(axes, pixels[index], maps[index], norm)
            if index == 0:
                axes.set_ylabel("CLS, last block", fontsize=7, color=FAINT)
        add_colour_bar(figure, grid[1, count], drawn_map)
    return figure
