"""The contact sheet: examples of every class of a data set, or of every range of a number.

Axes:  n images   m images of a group   y x pixels
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Bool, Int, UInt8
from matplotlib.figure import Figure

from vitral.report.style import SECOND, hide_axes, sheet, styled

MAX_CLASSES, MAX_COLUMNS = 20, 10


@styled()
def contact_figure(
    pixels: UInt8[np.ndarray, "n y x 3"],
    groups: Mapping[str, Int[np.ndarray, " m"]],
    masks: Bool[np.ndarray, "n y x"] | None,
    title: str,
    columns: int = MAX_COLUMNS,
) -> Figure:
    """One row per group with its first images, which are random ones if the split is in random order.

    If there are masks, the last image of each row shows its outline.
    """
    rows = min(len(groups), MAX_CLASSES)
    aspect = pixels.shape[2] / pixels.shape[1]
    columns = max(1, round(columns / max(1.0, aspect)))  # wide images: fewer of them, as large as the others
    figure = sheet(0.82 * columns * max(1.0, aspect) + 1.2, 0.86 * rows + 0.5)
    panels = figure.subplots(rows, columns, squeeze=False)
    for (name, indices), row in zip(groups.items(), panels):
        members = indices[:columns]
        for place, axes in enumerate(row):
            hide_axes(axes)
            if place == 0:
                axes.set_ylabel(name, rotation=0, ha="right", va="center")
            if place < len(members):
                axes.imshow(pixels[members[place]])
                if masks is not None and place == columns - 1:
                    axes.contour(masks[members[place]], levels=[0.5], colors=[SECOND], linewidths=1.5)
    outlined = "; last column: outline of the exact mask" if masks is not None else ""
    left_out = f"; {len(groups) - rows} more classes not shown" if len(groups) > rows else ""
    figure.suptitle(f"{title}{outlined}{left_out}", fontsize=9)
    return figure
