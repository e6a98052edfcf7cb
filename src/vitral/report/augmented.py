"""Training images as augmentation changes them: each image, and several versions of it beside it.

Axes:  n images   m versions   y x pixels
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitral.report.masks import class_colours, legend_handles
from vitral.report.style import SECOND, hide_axes, sheet, styled

PANEL = 1.15  # inches of the longer side of an image


@styled()
def augmented_figure(
    pixels: UInt8[np.ndarray, "n m y x 3"],
    masks: UInt8[np.ndarray, "n m y x"] | None,
    outlined: Mapping[int, str],
    names: Sequence[str],
    captions: Sequence[Sequence[str]],
    title: str,
) -> Figure:
    """One row per image: the first column is the image itself, the others are versions of it.

    `names` label the rows, and `captions` stand below the images, by row and column. `outlined` names the values of
    `masks` whose pixels get an outline.
    """
    rows, columns, height, width = pixels.shape[:4]
    wide, high = PANEL * width / max(height, width), PANEL * height / max(height, width)
    lines = max((caption.count("\n") + 1 for row in captions for caption in row if caption), default=0)
    left = min(2.0, 0.09 * max(len(line) for name in names for line in name.split("\n")))
    figure = sheet((wide + 0.08) * columns + left + 0.2, (high + 0.08 + 0.15 * lines) * rows + 0.65)
    panels = figure.subplots(rows, columns, squeeze=False)
    several = len(outlined) > 1
    colours = class_colours([outlined.get(value, "") for value in range(max(outlined, default=0) + 1)], None)
    for row, line in enumerate(panels):
        for column, axes in enumerate(line):
            axes.imshow(pixels[row, column])
            hide_axes(axes)
            axes.set_xlabel(captions[row][column], fontsize=6.5, labelpad=2)
            if masks is None:
                continue
            for value in outlined:
                outline(axes, masks[row, column] == value, colours[value] if several else SECOND)
        line[0].set_ylabel(names[row], rotation=0, ha="right", va="center", fontsize=8)
    panels[0, 0].set_title("image", fontsize=8)
    if columns > 1:
        panels[0, 1].set_title("versions that the model gets", fontsize=8, loc="left")
    figure.suptitle(title, fontsize=9)
    if several and masks is not None:
        present = [value for value in outlined if (masks == value).any()]
        handles = legend_handles(present, colours, [outlined.get(v, "") for v in range(len(colours))])
        figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)), fontsize=7)
    return figure


def outline(axes: Axes, inside: np.ndarray, colour: object) -> None:
    """Draw the border of a region, closed where the region touches the border of the image."""
    if not inside.any():
        return
    padded = np.pad(inside, 1)
    down, right = (np.arange(side) - 1 for side in padded.shape)
    limits = axes.get_xlim(), axes.get_ylim()
    axes.contour(right, down, padded, levels=[0.5], colors=[colour], linewidths=1.3)
    axes.set(xlim=limits[0], ylim=limits[1])
