"""Which positions a model treats alike: for each patch, a small map of its similarity with all others.

Axes:  gy gx rows, columns of patches   v u the same, of the other patch   d embedding width   h w cells of the mosaic
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vitral.report.colours import DIVERGING
from vitral.report.style import hide_axes, sheet, styled


@styled()
def similarity_figure(panels: Mapping[str, Float[np.ndarray, "gy gx v u"]]) -> Figure:
    """One panel per table of similarities: at each patch's place its map, whose darkest cell is the patch itself."""
    figure = sheet(3.6 * max(1, len(panels)) + 0.5, 3.9)
    cells = figure.add_gridspec(1, 2 * len(panels) + 1, width_ratios=[*[1, 0.06] * len(panels), 0.04])
    for place, (title, similarities) in enumerate(panels.items()):
        axes = figure.add_subplot(cells[2 * place])
        image = axes.imshow(mosaic(similarities), cmap=DIVERGING, vmin=-1, vmax=1)
        axes.set_title(title)
        hide_axes(axes)
        if place == len(panels) - 1:
            figure.colorbar(image, cax=figure.add_subplot(cells[-1]), label="cosine similarity")
    return figure


def mosaic(similarities: Float[np.ndarray, "gy gx v u"]) -> Float[np.ndarray, "h w"]:
    """All maps as one image, separated by lines of NaN, which are drawn white."""
    framed = np.pad(similarities, ((0, 0), (0, 0), (0, 1), (0, 1)), constant_values=np.nan)
    rows, columns, height, width = framed.shape
    return framed.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)[:-1, :-1]


def cosine_similarity(table: Float[np.ndarray, "gy gx d"]) -> Float[np.ndarray, "gy gx gy gx"]:
    """Cosine similarity of every position embedding with every other (Dosovitskiy et al. 2021, figure 7).

    The mean embedding is subtracted first: a part that all positions share would make all of them look alike.
    """
    centred = table - table.mean(axis=(0, 1))
    unit = centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-12)
    return np.einsum("yxd,vud->yxvu", unit, unit)


def similarity_of_neighbours(similarities: Float[np.ndarray, "gy gx v u"]) -> float:
    """The mean similarity of each patch with the next in its row; not a number if there is one column."""
    rows, columns = similarities.shape[:2]
    if columns < 2:
        return float("nan")
    return float(
        np.mean([similarities[row, left, row, left + 1] for row in range(rows) for left in range(columns - 1)])
    )
