"""The worst mistakes: the wrong answers the model was surest of, each with what CLS looked at.

Axes:  b images   y x pixels   gy gx rows, columns of patches
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from vitral.report.attention import bare, overlay, scale, ticks_in_times
from vitral.report.style import FAINT, sheet, styled


@styled
def mistakes_figure(
    pixels: UInt8[np.ndarray, "b y x 3"], titles: Sequence[str], maps: Float[np.ndarray, "b gy gx"] | None
) -> Figure:
    """Images in a row, and under each the last layer's map (heads averaged) where there is one."""
    count, rows = len(pixels), 1 if maps is None else 2
    figure = sheet(1.28 * count + 0.7, 1.38 * rows + 0.55)
    grid = figure.add_gridspec(rows, count + 1, width_ratios=[1] * count + [0.07])
    for index in range(count):
        axes = figure.add_subplot(grid[0, index])
        axes.imshow(pixels[index])
        axes.set_title(titles[index], fontsize=7.5)
        bare(axes)
    if maps is not None:
        norm = scale(maps)
        for index in range(count):
            below = figure.add_subplot(grid[1, index])
            shown = overlay(below, pixels[index], maps[index], norm)
            if index == 0:
                below.set_ylabel("CLS, last block", fontsize=7, color=FAINT)
        bar = figure.colorbar(shown, cax=figure.add_subplot(grid[1, count]))
        ticks_in_times(bar.ax, norm)
    return figure
