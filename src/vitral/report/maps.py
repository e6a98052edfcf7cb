"""Figures of maps over images: one per layer and head, per method, per query patch, or per mistake.

Positive maps are in multiples of a uniform map and share one scale. Signed maps are in logits; each has its own scale,
symmetric around zero, with its end printed below.

Axes:  b images   l layers   h heads   q query patches   gy gx rows, columns of patches   y x pixels
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from vitral.report.style import FAINT, MAGNITUDE, SECOND, SIGNED, hide_axes, sheet, show_image, styled

LOGARITHMIC_FROM = 8.0  # times uniform; beyond this, a linear scale would leave no colours for the other panels
FLOOR = 1 / 8  # lower end of a logarithmic scale; smaller values have its colour
MIN_TICK_DISTANCE = 0.1  # as a fraction of the colour bar: a label nearer to the one at the end is left out
OPACITY = 0.72  # of the map over the image
LUMINANCE = np.array([0.299, 0.587, 0.114])
MIN_END = 0.1  # logits at the end of a signed scale, at least: a map with smaller values stays pale


def colour_scale(values: Float[np.ndarray, "..."]) -> Normalize:
    """One scale for all panels: from zero to the largest value, logarithmic if that is `LOGARITHMIC_FROM` or more."""
    top = max(float(values.max()), 1.0)
    return Normalize(0, top) if top < LOGARITHMIC_FROM else LogNorm(FLOOR, top, clip=True)


def overlay(
    axes: Axes,
    pixels: UInt8[np.ndarray, "y x 3"],
    values: Float[np.ndarray, "gy gx"],
    norm: Normalize,
    colours: str = MAGNITUDE,
) -> AxesImage:
    """Draw a map over its image: the colour is the value, and the brightness within a patch is the image's own."""
    height, width = pixels.shape[:2]
    # Both images get the same extent, in pixels, so that each patch of the map covers exactly its own pixels.
    axes.imshow(pixels @ LUMINANCE, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    hide_axes(axes)
    return axes.imshow(values, cmap=colours, norm=norm, alpha=OPACITY, extent=(0, width, height, 0))


def add_colour_bar(figure: Figure, cell: SubplotSpec, image: ScalarMappable) -> None:
    """Add a colour bar labelled 0×, 1×, 2× ...; 1× is the value of every patch if all had the same."""
    norm = image.norm
    assert isinstance(norm, Normalize)
    bar = figure.colorbar(image, cax=figure.add_subplot(cell), extend="min" if isinstance(norm, LogNorm) else "neither")
    bar.ax.set_yticks(*ticks(norm))
    bar.ax.minorticks_off()
    bar.ax.set_title("uniform\n= 1×", fontsize=7)
    bar.ax.tick_params(labelsize=7)


def ticks(norm: Normalize) -> tuple[list[float], list[str]]:
    """Round values in times uniform, and the end of the scale, with their labels."""
    assert norm.vmax is not None
    if isinstance(norm, LogNorm):
        values = [2.0**power for power in range(round(np.log2(FLOOR)), int(np.log2(norm.vmax)) + 1)]
    else:
        values = [float(value) for value in range(int(norm.vmax) + 1)]
    end = float(norm.vmax)
    values = [value for value in values if float(norm(end)) - float(norm(value)) > MIN_TICK_DISTANCE]
    labels = [f"{value:g}×" if value >= 1 or not value else f"1/{1 / value:g}×" for value in values]
    return [*values, end], [*labels, f"{end:.3g}×"]


@styled()
def attention_figure(
    pixels: UInt8[np.ndarray, "y x 3"],
    values: Float[np.ndarray, "l h gy gx"],
    prefix_mass: Float[np.ndarray, "l h"],
    layers: Sequence[str],
    heads: Sequence[int],
    caption: str,
    prefix: str = "CLS",
) -> Figure:
    """The image, then one row per layer and one column per head.

    Below each panel stands the share of attention that the prefix tokens, called `prefix`, receive; an empty name
    means that there are none.
    """
    depth, count = values.shape[:2]
    norm = colour_scale(values)
    height, width = pixels.shape[:2]
    # In inches. Panels have the shape of the image; those of a tall image are narrower, so that all rows fit a page.
    panel = (1.15 if count <= 6 else 0.95) * min(1.0, width / height * 1.5)
    panel_height, left = panel * height / width, 1.7
    total = left + panel * count + 0.9
    rows_height = max((panel_height + 0.18) * depth, left * height / width, 1.3)
    figure = sheet(total, rows_height + 0.45, caption)
    cells = figure.add_gridspec(1, 3, width_ratios=[left, panel * count, 0.14])
    show_image(figure.add_subplot(cells[0]), pixels, "model input")
    panels = cells[1].subgridspec(depth, count, wspace=0.04, hspace=0.05)
    for layer in range(depth):
        for head in range(count):
            axes = figure.add_subplot(panels[layer, head])
            drawn_map = overlay(axes, pixels, values[layer, head], norm)
            if prefix:
                label = f"{prefix} {prefix_mass[layer, head]:.0%}"
                axes.set_xlabel(label, fontsize=6.5, labelpad=2, color=FAINT)
            if layer == 0:
                axes.set_title(f"head {heads[head]}", fontsize=8)
            if head == 0:
                axes.set_ylabel(layers[layer].removesuffix(".attn"), fontsize=7.5)
    add_colour_bar(figure, cells[2], drawn_map)
    return figure


@dataclass(frozen=True)
class MapPanel:
    """A map to draw, its title, whether it has negative values and in which unit, and a line to print below it."""

    title: str
    values: Float[np.ndarray, "gy gx"]
    signed: bool = False
    note: str = ""
    unit: str = "logits"


@styled()
def maps_figure(pixels: UInt8[np.ndarray, "y x 3"], maps: Sequence[MapPanel], caption: str, columns: int = 5) -> Figure:
    """The image, then each map over it: positive maps on one scale, signed maps each on its own."""
    figure, cells, panels = map_grid(pixels, len(maps) + 1, min(columns, len(maps) + 1), 1.75, 0.42, caption)
    all_axes = [figure.add_subplot(panels[divmod(place, panels.ncols)]) for place in range(len(maps) + 1)]
    show_image(all_axes[0], pixels, "model input")
    positive = [panel.values for panel in maps if not panel.signed]
    norm = colour_scale(np.concatenate([values.ravel() for values in positive])) if positive else Normalize(0, 1)
    for axes, panel in zip(all_axes[1:], maps):
        note = panel.note
        if panel.signed:  # red is evidence for the class, blue against it, white neither
            end = max(float(np.abs(panel.values).max()), MIN_END if panel.unit == "logits" else 1e-12)
            overlay(axes, pixels, panel.values, Normalize(-end, end), SIGNED)
            note = f"red +{end:.2g}, blue −{end:.2g} {panel.unit}" + (f"\n{note}" if note else "")
        else:
            drawn_map = overlay(axes, pixels, panel.values, norm)
        axes.set_title(panel.title)
        axes.set_xlabel(note, fontsize=6.5, labelpad=2, color=FAINT)
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
    figure = sheet(total, height + 0.35, caption)
    cells = figure.add_gridspec(1, 2, width_ratios=[width * columns, 0.16])
    return figure, cells, cells[0].subgridspec(rows, columns, wspace=0.05, hspace=0.05)


@styled()
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


@styled()
def mistakes_figure(
    pixels: UInt8[np.ndarray, "b y x 3"], titles: Sequence[str], maps: Float[np.ndarray, "b gy gx"] | None
) -> Figure:
    """The images in a row, and below each its map (mean of the heads), if there are maps; one scale for all maps."""
    count, rows = len(pixels), 1 if maps is None else 2
    figure = sheet(1.28 * count + 0.7, 1.38 * rows + 0.55)
    grid = figure.add_gridspec(rows, count + 1, width_ratios=[1] * count + [0.07])
    for index in range(count):
        show_image(figure.add_subplot(grid[0, index]), pixels[index], titles[index], 7.5)
    if maps is not None:
        norm = colour_scale(maps)
        for index in range(count):
            axes = figure.add_subplot(grid[1, index])
            drawn_map = overlay(axes, pixels[index], maps[index], norm)
            if index == 0:
                axes.set_ylabel("CLS, last block", fontsize=7, color=FAINT)
        add_colour_bar(figure, grid[1, count], drawn_map)
    return figure
