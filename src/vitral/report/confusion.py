"""The confusion matrix.

Axes:  k classes
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int
from matplotlib.figure import Figure

from vitral.report.style import INK, sheet, styled

MAX_NUMBERED = 25  # classes; with more, the numbers would be too small to read


@styled()
def confusion_figure(matrix: Int[np.ndarray, "k k"], classes: Sequence[str]) -> Figure:
    """One row per true class, one column per predicted class; colours are shares of the row, numbers are counts."""
    count = len(classes)
    side = min(max(3.4, 0.46 * count + 1.2), 12)
    figure = sheet(side + 0.6, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the square root keeps 1 % visible
    axes.set_xticks(range(count), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if count <= MAX_NUMBERED:
        for row, column in np.argwhere(matrix):
            colour = "white" if share[row, column] > 0.4 else INK
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    return figure
