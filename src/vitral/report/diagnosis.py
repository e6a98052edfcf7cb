"""Figures of how a model works in general: quantities per layer and head, maps of its patches, and its similarities.

Axes:  l layers   h heads   y x pixels   gy gx rows, columns of patches
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vitral.report.colours import DIVERGING
from vitral.report.style import ACCENT, FAINT, MAGNITUDE, sheet, styled

PER_ROW = 3


@styled()
def layers_figure(quantities: Mapping[str, Float[np.ndarray, "l h"]]) -> Figure:
    """One panel per quantity: its mean over heads by layer as a line, each head as a dot."""
    rows = -(-len(quantities) // PER_ROW)
    figure = sheet(3.2 * PER_ROW, 2.2 * rows)
    axes = figure.subplots(rows, PER_ROW, squeeze=False).ravel()
    for axis, (title, values) in zip(axes, quantities.items()):
        layers = np.arange(len(values))
        axis.plot(np.repeat(layers, values.shape[1]), values.ravel(), ".", color=FAINT, ms=4)
        axis.plot(layers, np.nanmean(values, axis=1), "-", color=ACCENT, lw=1.6)
        axis.set(title=title, xlabel="layer", ylim=(0, None))
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axis in axes[len(quantities) :]:
        axis.set_axis_off()
    return figure


@styled()
def patches_figure(
    image: UInt8[np.ndarray, "y x 3"], panels: Mapping[str, Float[np.ndarray, "..."]], signed: Collection[str] = ()
) -> Figure:
    """The image, and beside it one panel per map: (gy, gx) on a colour scale from 0, (gy, gx, 3) as colours.

    Panels in `signed` are from -1 to 1, with the neutral colour at 0.
    """
    height = 2.6 * image.shape[0] / image.shape[1] + 0.5
    figure = sheet(2.6 * (1 + len(panels)), height)
    axes = figure.subplots(1, 1 + len(panels), squeeze=False)[0]
    axes[0].imshow(image)
    axes[0].set_title("image")
    extent = (0, image.shape[1], image.shape[0], 0)
    for axis, (title, values) in zip(axes[1:], panels.items()):
        colours, least, most = (DIVERGING, -1.0, 1.0) if title in signed else (MAGNITUDE, 0.0, max(values.max(), 1e-12))
        drawn = axis.imshow(values, cmap=colours, vmin=least, vmax=most, extent=extent)
        axis.set_title(title)
        if values.ndim == 2:
            figure.colorbar(drawn, ax=axis, shrink=0.8)
    for axis in axes:
        axis.set_axis_off()
    return figure


@styled()
def matrix_figure(values: Float[np.ndarray, "l m"], places: Sequence[str]) -> Figure:
    """A matrix of similarities in 0..1 between places in a model, first place at the top left."""
    figure = sheet(4.4, 3.8)
    axis = figure.subplots()
    drawn = axis.imshow(values, cmap=MAGNITUDE, vmin=0, vmax=1)
    ticks = np.unique(np.linspace(0, len(places) - 1, min(len(places), 6)).round().astype(int))
    axis.set_xticks(ticks, [places[tick] for tick in ticks], rotation=30, ha="right")
    axis.set_yticks(ticks, [places[tick] for tick in ticks])
    figure.colorbar(drawn, ax=axis)
    return figure
