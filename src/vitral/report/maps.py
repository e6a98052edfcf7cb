"""Figures of maps over images: one per layer and head, per method, per query patch, or per mistake.

All maps of a page have the colours of `report.colours`: shares around 1× uniform, anything else around 0. Callers pass
the scale of the page; without one, a figure has a scale of its own. Captions are not drawn: they are the figure's
label, which `png` writes into the file, and text in a page.

Axes:  b images   l layers   h heads   q query patches   gy gx rows, columns of patches   y x pixels
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec, SubplotSpec
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from vitral.report.colours import DIVERGING, UNIFORM, colour_scale, colour_scales, shade_of, ticks
from vitral.report.style import FAINT, INK, hide_axes, sheet, show_image, styled

BAR_WIDTH = 1.2  # inches for a colour bar with its labels
MOST_NUMBERS = 8  # rows or columns whose numbers are printed


def overlay(
    axes: Axes, pixels: UInt8[np.ndarray, "y x 3"], values: Float[np.ndarray, "gy gx"], norm: Normalize
) -> AxesImage:
    """Draw a map and darken it by its image: the hue is the value, and the brightness within a patch is the image's."""
    height, width = pixels.shape[:2]
    # Both get the same extent, in pixels, so that each patch of the map covers exactly its own pixels.
    drawn_map = axes.imshow(values, cmap=DIVERGING, norm=norm, extent=(0, width, height, 0))
    black = np.zeros((height, width, 4))
    black[..., 3] = shade_of(pixels)
    axes.imshow(black, extent=(0, width, height, 0))
    hide_axes(axes)
    return drawn_map


def number_patches(axes: Axes, pixels: UInt8[np.ndarray, "y x 3"], grid: tuple[int, int]) -> None:
    """Number the rows and columns of patches from 0, as `patch 3 4` and `--query 3,4` count them."""
    for axis, size, count in zip((axes.yaxis, axes.xaxis), pixels.shape, grid):
        apart = next(step for step in (1, 2, 5, 10, 20, 50, 100, count) if count <= MOST_NUMBERS * step)
        numbers = np.arange(0, count, apart)
        axis.set_ticks((numbers + 0.5) * size / count, [str(number) for number in numbers])
        axis.set_tick_params(length=0, pad=2, labelsize=6, labelcolor=FAINT)


def add_colour_bar(figure: Figure, cell: SubplotSpec, image: ScalarMappable, unit: str = UNIFORM) -> None:
    """Add a colour bar whose neutral middle is 1× uniform, or 0, and whose ends are labelled in words."""
    norm = image.norm
    assert isinstance(norm, Normalize)
    bar = figure.colorbar(image, cax=figure.add_subplot(cell))
    bar.ax.set_yticks(*ticks(norm, unit))
    bar.ax.minorticks_off()
    bar.ax.set_title("share" if unit == UNIFORM else unit, fontsize=7, loc="left")
    bar.ax.tick_params(labelsize=7)


@styled()
def attention_figure(
    pixels: UInt8[np.ndarray, "y x 3"],
    values: Float[np.ndarray, "l h gy gx"],
    prefix_mass: Float[np.ndarray, "l h"],
    layers: Sequence[str],
    heads: Sequence[int],
    caption: str,
    prefix: str = "CLS",
    norm: Normalize | None = None,
) -> Figure:
    """The image, then one row per layer and one column per head.

    Below each panel stands the share of attention that the prefix tokens, called `prefix`, receive; an empty name
    means that there are none.
    """
    depth, count = values.shape[:2]
    norm = norm or colour_scale(UNIFORM, [values])
    height, width = pixels.shape[:2]
    # In inches. Panels have the shape of the image; those of a tall image are narrower, so that all rows fit a page.
    panel = (1.15 if count <= 6 else 0.95) * min(1.0, width / height * 1.5)
    panel_height, left = panel * height / width, 1.7
    total = left + panel * count + BAR_WIDTH + 0.3
    rows_height = max((panel_height + 0.18) * depth, left * height / width, 1.3)
    figure = sheet(total, rows_height + 0.25, caption)
    cells = figure.add_gridspec(1, 3, width_ratios=[left, panel * count, 0.14])
    image_axes = figure.add_subplot(cells[0])
    show_image(image_axes, pixels, "model input")
    number_patches(image_axes, pixels, values.shape[2:])
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
    """A map to draw, its title, its unit, and a line of text to print below it."""

    title: str
    values: Float[np.ndarray, "gy gx"]
    unit: str = UNIFORM
    note: str = ""


@styled()
def maps_figure(
    pixels: UInt8[np.ndarray, "y x 3"],
    maps: Sequence[MapPanel],
    caption: str,
    columns: int = 5,
    scales: Mapping[str, Normalize] | None = None,
) -> Figure:
    """The image, then each map over it; `scales` has one scale per unit, by default that of these maps."""
    scales = scales or colour_scales((panel.unit, panel.values) for panel in maps)
    units = list(dict.fromkeys(panel.unit for panel in maps))
    count = len(maps) + 1
    figure, cells, panels = map_grid(pixels, count, min(columns, count), 1.75, 0.42, caption, len(units))
    image_axes = figure.add_subplot(panels[0, 0])
    show_image(image_axes, pixels, "model input")
    number_patches(image_axes, pixels, maps[0].values.shape)
    drawn: dict[str, AxesImage] = {}
    for place, panel in enumerate(maps, start=1):
        axes = figure.add_subplot(panels[divmod(place, panels.ncols)])
        drawn[panel.unit] = overlay(axes, pixels, panel.values, scales[panel.unit])
        axes.set_title(panel.title)
        axes.set_xlabel(panel.note, fontsize=6.5, labelpad=2, color=FAINT)
    for place, unit in enumerate(units, start=1):
        add_colour_bar(figure, cells[place], drawn[unit], unit)
    return figure


def map_grid(
    pixels: UInt8[np.ndarray, "y x 3"],
    count: int,
    columns: int,
    width: float,
    text_height: float,
    caption: str,
    num_bars: int = 1,
) -> tuple[Figure, GridSpec, GridSpecFromSubplotSpec]:
    """A figure, its cells (panels, then one per colour bar), and a grid of panels with the shape of the image.

    `width` is that of a panel and `text_height` that of the text around it, in inches.
    """
    rows = -(-count // columns)
    total = width * columns + BAR_WIDTH * num_bars
    height = (width * pixels.shape[0] / pixels.shape[1] + text_height) * rows
    figure = sheet(total, height + 0.35, caption)
    cells = figure.add_gridspec(1, 1 + num_bars, width_ratios=[width * columns, *[0.14] * num_bars])
    return figure, cells, cells[0].subgridspec(rows, columns, wspace=0.05, hspace=0.05)


@styled()
def queries_figure(
    pixels: UInt8[np.ndarray, "y x 3"],
    values: Float[np.ndarray, "q gy gx"],
    queries: Sequence[tuple[int, int]],
    caption: str,
    norm: Normalize | None = None,
) -> Figure:
    """What each of several patches attends to: one panel per query patch, which is outlined; one scale for all."""
    columns = min(6, len({column for _, column in queries}))
    figure, cells, panels = map_grid(pixels, len(queries), columns, 1.6, 0.27, caption)
    norm = norm or colour_scale(UNIFORM, [values])
    height, width = pixels.shape[0] / values.shape[1], pixels.shape[1] / values.shape[2]
    for place, ((row, column), attention) in enumerate(zip(queries, values)):
        axes = figure.add_subplot(panels[divmod(place, columns)])
        drawn_map = overlay(axes, pixels, attention, norm)
        for colour, line_width in (("white", 3), (INK, 1.5)):  # white on both sides: visible on every colour
            corner = column * width, row * height
            axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=colour, linewidth=line_width))
        axes.set_title(f"row {row}, column {column}", fontsize=7.5)
    add_colour_bar(figure, cells[1], drawn_map)
    return figure


@styled()
def mistakes_figure(
    pixels: UInt8[np.ndarray, "b y x 3"],
    titles: Sequence[str],
    maps: Float[np.ndarray, "b gy gx"] | None,
    norm: Normalize | None = None,
    label: str = "",
) -> Figure:
    """The images in a row, and below each its map, if there are maps: `label` says of what. One scale for all maps."""
    count, rows = len(pixels), 1 if maps is None else 2
    figure = sheet(1.28 * count + BAR_WIDTH, 1.38 * rows + 0.55)
    grid = figure.add_gridspec(rows, count + 1, width_ratios=[1] * count + [0.07])
    for index in range(count):
        show_image(figure.add_subplot(grid[0, index]), pixels[index], titles[index], 7.5)
    if maps is not None:
        norm = norm or colour_scale(UNIFORM, [maps])
        for index in range(count):
            axes = figure.add_subplot(grid[1, index])
            drawn_map = overlay(axes, pixels[index], maps[index], norm)
            if index == 0:
                axes.set_ylabel(label, fontsize=7, color=FAINT)
        add_colour_bar(figure, grid[1, count], drawn_map)
    return figure
