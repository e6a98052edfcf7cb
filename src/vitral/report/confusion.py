"""Which classes are taken for which.

Axes:  k classes
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from vitral.report.style import sheet, styled

MOST_NUMBERS = 25  # beyond so many classes the numbers would not be readable


@styled
def confusion_figure(matrix: Int[np.ndarray, "k k"], classes: Sequence[str]) -> Figure:
    """A row a true class, a column an answer; the colour is the share of the row, the number the count."""
    count = len(classes)
    side = min(max(3.4, 0.46 * count + 1.2), 12)
    figure = sheet(side + 0.6, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the root lets one mistake in a hundred be seen
    axes.set_xticks(range(count), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), classes)
    axes.set(xlabel="the model's answer", ylabel="the truth")
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if count <= MOST_NUMBERS:
        for row, column in np.argwhere(matrix):
            dark = share[row, column] > 0.4
            axes.text(
                column,
                row,
                f"{matrix[row, column]}",
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if dark else "#22303c",
            )
    return figure
