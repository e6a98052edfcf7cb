"""A contact sheet: a data set at a glance.

Axes:  n images   y x pixels
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, UInt8
from matplotlib.figure import Figure

from vitral.report.attention import bare
from vitral.report.style import SECOND, sheet, styled

MOST_CLASSES = 20


@styled
def contact_figure(
    pixels: UInt8[np.ndarray, "n y x 3"],
    labels: Int[np.ndarray, " n"],
    classes: Sequence[str],
    masks: Bool[np.ndarray, "n y x"] | None,
    title: str,
    columns: int = 10,
) -> Figure:
    """A row a class, its first images; where masks are known, the last image's outline is drawn."""
    shown = list(range(min(len(classes), MOST_CLASSES)))
    figure = sheet(0.82 * columns + 1.2, 0.86 * len(shown) + 0.5)
    panels = figure.subplots(len(shown), columns, squeeze=False)
    for row, label in zip(panels, shown):
        members = np.flatnonzero(labels == label)[:columns]
        for place, axes in enumerate(row):
            bare(axes)
            if place == 0:
                axes.set_ylabel(classes[label], rotation=0, ha="right", va="center")
            if place < len(members):
                axes.imshow(pixels[members[place]])
                if masks is not None and place == columns - 1:
                    axes.contour(masks[members[place]], levels=[0.5], colors=[SECOND], linewidths=1.5)
    left_out = f"; {len(classes) - len(shown)} more classes" if len(classes) > len(shown) else ""
    outlined = "; outlined: the exact mask" if masks is not None else ""
    figure.suptitle(f"{title}{outlined}{left_out}", fontsize=9)
    return figure
