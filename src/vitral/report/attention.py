"""The figure of attention maps: every layer and head for one image, on one scale in units of uniform attention.

Axes:  l layers   h heads   gy gx rows, columns of patches   y x pixels
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure

from vitral.report.overlay import add_colour_bar, colour_scale, overlay
from vitral.report.style import FAINT, add_caption, caption_height, hide_axes, sheet, styled


@styled
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
    figure = sheet(total, rows_height + 0.45 + caption_height(caption, total))
    cells = figure.add_gridspec(1, 3, width_ratios=[left, panel * count, 0.14])
    image = figure.add_subplot(cells[0])
    image.imshow(pixels)
    image.set_title("model input")
    hide_axes(image)
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
    add_caption(figure, caption)
    return figure
