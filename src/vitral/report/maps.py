"""Figures of one map per method, or per query patch, each over the image.

Positive maps are in multiples of a uniform map and share one scale. Signed maps are in logits; each has its own scale,
symmetric around zero, with its end printed below.

Axes:  q query patches   gy gx rows, columns of patches   y x pixels
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec
from matplotlib.patches import Rectangle

from vitral.report.overlay import add_colour_bar, colour_scale, overlay
from vitral.report.style import FAINT, SECOND, SIGNED, add_caption, caption_height, hide_axes, sheet, styled

MIN_END = 0.1  # logits at the end of a signed scale, at least: a map with smaller values stays pale


@dataclass(frozen=True)
class MapPanel:
    """A map to draw, its title, whether it has negative values, and a line of text to print below it."""

    title: str
    values: Float[np.ndarray, "gy gx"]
    signed: bool = False
    note: str = ""


@styled
def maps_figure(pixels: UInt8[np.ndarray, "y x 3"], maps: Sequence[MapPanel], caption: str, columns: int = 5) -> Figure:
    """The image, then each map over it: positive maps on one scale, signed maps each on its own."""
    figure, cells, panels = map_grid(pixels, len(maps) + 1, min(columns, len(maps) + 1), 1.75, 0.42, caption)
    all_axes = [figure.add_subplot(panels[divmod(place, panels.ncols)]) for place in range(len(maps) + 1)]
    all_axes[0].imshow(pixels)
    all_axes[0].set_title("model input")
    hide_axes(all_axes[0])
    positive = [panel.values for panel in maps if not panel.signed]
    norm = colour_scale(np.concatenate([values.ravel() for values in positive])) if positive else Normalize(0, 1)
    for axes, panel in zip(all_axes[1:], maps):
        axes.set_title(panel.title)
        if panel.signed:
            signed_overlay(axes, pixels, panel)
        else:
            drawn_map = overlay(axes, pixels, panel.values, norm)
            axes.set_xlabel(panel.note, fontsize=6.5, labelpad=2, color=FAINT)
    if positive:
        add_colour_bar(figure, cells[1], drawn_map)
    return figure


def map_grid(
    pixels: UInt8[np.ndarray, "y x 3"], count: int, columns: int, width: float, text_height: float, caption: str
) -> tuple[Figure, GridSpec, GridSpecFromSubplotSpec]:
    """A captioned figure, its two cells (panels, colour bar), and a grid of panels with the shape of the image.

    `width` is that of a panel and `text_height` that of the text around it, in inches.
    """
    rows = -(-count // columns)
    total = width * columns + 0.9
    height = (width * pixels.shape[0] / pixels.shape[1] + text_height) * rows
    figure = sheet(total, height + 0.35 + caption_height(caption, total))
    add_caption(figure, caption)
    cells = figure.add_gridspec(1, 2, width_ratios=[width * columns, 0.16])
    return figure, cells, cells[0].subgridspec(rows, columns, wspace=0.05, hspace=0.05)


def signed_overlay(axes: Axes, pixels: UInt8[np.ndarray, "y x 3"], panel: MapPanel) -> None:
    """Red is evidence for the class, blue against it, white neither."""
    end = max(float(np.abs(panel.values).max()), MIN_END)
    overlay(axes, pixels, panel.values, Normalize(-end, end), SIGNED)
    note = f"red +{end:.2g}, blue −{end:.2g} logits" + (f"\n{panel.note}" if panel.note else "")
    axes.set_xlabel(note, fontsize=6.5, labelpad=2, color=FAINT)


@styled
def queries_figure(
    pixels: UInt8[np.ndarray, "y x 3"],
    values: Float[np.ndarray, "q gy gx"],
    queries: Sequence[tuple[int, int]],
    caption: str,
) -> Figure:
    """What each of several patches attends to: one panel per query patch, which is outlined; one scale for all."""
    columns = min(6, len({column for _, column in queries}))
    figure, cells, panels = map_grid(pixels, len(queries), columns, 1.6, 0.27, caption)
    norm = colour_scale(values)
    height, width = pixels.shape[0] / values.shape[1], pixels.shape[1] / values.shape[2]
    for place, ((row, column), attention) in enumerate(zip(queries, values)):
        axes = figure.add_subplot(panels[divmod(place, columns)])
        drawn_map = overlay(axes, pixels, attention, norm)
        for colour, line_width in (("white", 3), (SECOND, 1.5)):  # white on both sides: visible on every colour
            corner = column * width, row * height
            axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line_width))
        axes.set_title(f"row {row}, column {column}", fontsize=7.5)
    add_colour_bar(figure, cells[1], drawn_map)
    return figure
