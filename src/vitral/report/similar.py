"""Which places a model takes to be alike: for each, a small map of its similarity with all others.

Axes:  gy gx rows, columns of patches   v u the same, of the patch compared with   w all that is drawn
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vitral.report.style import SIGNED, sheet, styled


@styled
def similar_figure(panels: Mapping[str, Float[np.ndarray, "gy gx v u"]]) -> Figure:
    """A panel a table; where a patch stands is its map, and where it stands on its map is the darkest cell."""
    figure = sheet(2.7 * max(1, len(panels)) + 0.5, 3.0)
    parts = figure.add_gridspec(1, 2 * len(panels) + 1, width_ratios=[*[1, 0.06] * len(panels), 0.04])
    for place, (title, similar) in enumerate(panels.items()):
        axis = figure.add_subplot(parts[2 * place])
        shown = axis.imshow(mosaic(similar), cmap=SIGNED, vmin=-1, vmax=1)
        axis.set(title=title, xticks=[], yticks=[])
        for spine in axis.spines.values():
            spine.set_visible(False)
        if place == len(panels) - 1:
            figure.colorbar(shown, cax=figure.add_subplot(parts[-1]), label="cosine similarity")
    return figure


def mosaic(similar: Float[np.ndarray, "gy gx v u"]) -> Float[np.ndarray, "w w"]:
    """The maps beside each other, an empty line between; what is empty is not a number."""
    gap = ((0, 0), (0, 0), (0, 1), (0, 1))
    framed = np.pad(similar, gap, constant_values=np.nan)
    rows, columns, height, width = framed.shape
    return framed.transpose(0, 2, 1, 3).reshape(rows * height, columns * width)[:-1, :-1]
