"""A map drawn over its image, and the colour scale and colour bar that several maps share.

Axes:  gy gx rows, columns of patches   y x pixels
"""

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.image import AxesImage

from vitral.report.style import MAGNITUDE, hide_axes

LOGARITHMIC_FROM = 8.0  # times uniform; beyond this, a linear scale would leave no colours for the other panels
FLOOR = 1 / 8  # lower end of a logarithmic scale; smaller values have its colour
MIN_TICK_DISTANCE = 0.1  # as a fraction of the colour bar: a label nearer to the one at the end is left out
OPACITY = 0.72  # of the map over the image
LUMINANCE = np.array([0.299, 0.587, 0.114])


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
