"""The contact sheet: examples of every class of a data set.

Axes:  n images   y x pixels
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8
from matplotlib.figure import Figure

from vitral.report.style import SECOND, hide_axes, sheet, styled

MAX_CLASSES = 20


@styled()
def contact_figure(
    pixels: UInt8[np.ndarray, "n y x 3"],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    masks: Bool[np.ndarray, "n y x"] | None,
    title: str,
    columns: int = 10,
) -> Figure:
    """One row per class with its first images, which are random ones if the split is in random order.

    If there are masks, the last image of each row shows its outline.
    """
    rows = min(len(classes), MAX_CLASSES)
    figure = sheet(0.82 * columns + 1.2, 0.86 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False)
    for label, row in enumerate(panels):
        members = np.flatnonzero(labels == label)[:columns]
        for place, axes in enumerate(row):
            hide_axes(axes)
            if place == 0:
                axes.set_ylabel(classes[label], rotation=0, ha="right", va="center")
            if place < len(members):
                axes.imshow(pixels[members[place]])
                if masks is not None and place == columns - 1:
                    axes.contour(masks[members[place]], levels=[0.5], colors=[SECOND], linewidths=1.5)
    outlined = "; last column: outline of the exact mask" if masks is not None else ""
    left_out = f"; {len(classes) - rows} more classes not shown" if len(classes) > rows else ""
    figure.suptitle(f"{title}{outlined}{left_out}", fontsize=9)
    return figure
