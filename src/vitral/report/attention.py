"""Pictures of attention maps: every layer and head of an image on one scale, in units of uniform attention.

Axes:  l layers   h heads   gy gx rows, columns of patches   y x pixels
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from vitral.report.style import FAINT, INK, MAGNITUDE, caption_height, sheet, styled

SHARP = 8.0  # times uniform; where a patch gets more, a linear scale would leave no colours for the other panels
FLOOR = 1 / 8  # on a logarithmic scale, less than this is shown as this
APART = 0.1  # of a colour bar: a label nearer to that of its end leaves it the place


def scale(values: Float[np.ndarray, "..."]) -> Normalize:
    """One colour scale for all panels: from zero to the largest value, logarithmic where that is `SHARP` or more."""
    top = max(float(values.max()), 1.0)
    return Normalize(0, top) if top < SHARP else LogNorm(FLOOR, top, clip=True)


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
    """The image, then a row a layer and a column a head; under each panel, what stays on the tokens before the patches.

    `prefix` is what to call those, or nothing if there are none.
    """
    depth, count = values.shape[:2]
    norm = scale(values)
    height, width = pixels.shape[:2]
    panel = (1.15 if count <= 6 else 0.95) * min(1.0, width / height * 1.5)
    tall, left = panel * height / width, 1.7
    wide = left + panel * count + 0.9
    figure = sheet(wide, max((tall + 0.18) * depth, left * height / width, 1.3) + 0.45 + caption_height(caption, wide))
    frame = figure.add_gridspec(1, 3, width_ratios=[left, panel * count, 0.14])
    picture = figure.add_subplot(frame[0])
    picture.imshow(pixels)
    picture.set_title("what the model saw")
    bare(picture)
    panels = frame[1].subgridspec(depth, count, wspace=0.04, hspace=0.05)
    for layer in range(depth):
        for head in range(count):
            axes = figure.add_subplot(panels[layer, head])
            shown = overlay(axes, pixels, values[layer, head], norm)
            if prefix:
                label = f"{prefix} {prefix_mass[layer, head]:.0%}"
                axes.set_xlabel(label, fontsize=6.5, labelpad=2, color=FAINT)
            if layer == 0:
                axes.set_title(f"head {heads[head]}", fontsize=8)
            if head == 0:
                axes.set_ylabel(layers[layer].removesuffix(".attn"), fontsize=7.5)
    bar = figure.colorbar(
        shown, cax=figure.add_subplot(frame[2]), extend="min" if isinstance(norm, LogNorm) else "neither"
    )
    ticks_in_times(bar.ax, norm)
    figure.suptitle(caption, fontsize=8, color=INK, x=0.01, ha="left", wrap=True)
    return figure


def overlay(
    axes: Axes,
    pixels: UInt8[np.ndarray, "y x 3"],
    values: Float[np.ndarray, "gy gx"],
    norm: Normalize,
    colours: str = MAGNITUDE,
):
    """A map over its image: the colour is the value, the lightness inside a patch is the image's own."""
    height, width = pixels.shape[:2]
    grey = pixels @ np.array([0.299, 0.587, 0.114])
    axes.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, width, height, 0))
    shown = axes.imshow(values, cmap=colours, norm=norm, alpha=0.72, extent=(0, width, height, 0))
    bare(axes)
    return shown


def bare(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def times(norm: Normalize) -> tuple[list[float], list[str]]:
    """Round values on a scale, in times uniform, and its end; and what to call them."""
    assert norm.vmax is not None
    if isinstance(norm, LogNorm):
        ticks = [2.0**power for power in range(round(np.log2(FLOOR)), int(np.log2(norm.vmax)) + 1)]
    else:
        ticks = [float(tick) for tick in range(int(norm.vmax) + 1)]
    end = float(norm.vmax)
    free = [tick for tick in ticks if float(norm(end)) - float(norm(tick)) > APART]
    words = [f"{tick:g}×" if tick >= 1 or not tick else f"1/{1 / tick:g}×" for tick in free]
    return [*free, end], [*words, f"{end:.3g}×"]


def ticks_in_times(axes: Axes, norm: Normalize) -> None:
    """Label a colour bar 0x, 1x, 2x ...: one is what every patch would get if all were alike."""
    axes.set_yticks(*times(norm))
    axes.minorticks_off()
    axes.set_title("uniform\n= 1×", fontsize=7)
    axes.tick_params(labelsize=7)
