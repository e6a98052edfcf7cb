"""Pictures of one map an image: over the image, side by side with other methods', or one for each patch that reads.

Positive maps are in units of a uniform map and share one scale; signed ones are in logits, each on a scale of its own
that is the same on both sides of zero, and says its end.

Axes:  m maps   q queries   gy gx rows, columns of patches   y x pixels
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from vitral.report.attention import bare, overlay, scale, ticks_in_times
from vitral.report.style import FAINT, INK, SECOND, SIGNED, caption_height, sheet, styled

LEAST = 0.1  # logits at the end of a signed scale: a map of less is drawn as faint as it is


@dataclass(frozen=True)
class Drawn:
    """A map to draw, what to call it, its unit, and a line to stand below it."""

    name: str
    values: Float[np.ndarray, "gy gx"]
    signed: bool = False
    below: str = ""


@styled
def maps_figure(pixels: UInt8[np.ndarray, "y x 3"], maps: Sequence[Drawn], caption: str, columns: int = 5) -> Figure:
    """The image, then each map over it; positive maps on one scale, signed ones each on its own."""
    columns = min(columns, len(maps) + 1)
    rows = -(-(len(maps) + 1) // columns)
    height, width = pixels.shape[:2]
    panel = 1.75
    tall = panel * height / width
    wide = panel * columns + 0.9
    figure = sheet(wide, (tall + 0.42) * rows + 0.35 + caption_height(caption, wide))
    frame = figure.add_gridspec(1, 2, width_ratios=[panel * columns, 0.16])
    panels = frame[0].subgridspec(rows, columns, wspace=0.05, hspace=0.05)
    places = [figure.add_subplot(panels[place // columns, place % columns]) for place in range(len(maps) + 1)]
    places[0].imshow(pixels)
    places[0].set_title("what the model saw")
    bare(places[0])
    positive = [drawn.values for drawn in maps if not drawn.signed]
    norm = scale(np.concatenate([values.ravel() for values in positive])) if positive else Normalize(0, 1)
    shown = None
    for axes, drawn in zip(places[1:], maps):
        axes.set_title(drawn.name)
        if drawn.signed:
            signed_overlay(axes, pixels, drawn)
        else:
            shown = overlay(axes, pixels, drawn.values, norm)
            axes.set_xlabel(drawn.below, fontsize=6.5, labelpad=2, color=FAINT)
    if shown is not None:
        side = figure.add_subplot(frame[1])
        bar = figure.colorbar(shown, cax=side, extend="min" if isinstance(norm, LogNorm) else "neither")
        ticks_in_times(bar.ax, norm)
    figure.suptitle(caption, fontsize=8, color=INK, x=0.01, ha="left", wrap=True)
    return figure


def signed_overlay(axes: Axes, pixels: UInt8[np.ndarray, "y x 3"], drawn: Drawn) -> None:
    """Red speaks for the class, blue against it; white is nothing."""
    end = max(float(np.abs(drawn.values).max()), LEAST)
    overlay(axes, pixels, drawn.values, Normalize(-end, end), SIGNED)
    below = f"red +{end:.2g}, blue −{end:.2g} logits" + (f"\n{drawn.below}" if drawn.below else "")
    axes.set_xlabel(below, fontsize=6.5, labelpad=2, color=FAINT)


@styled
def queries_figure(
    pixels: UInt8[np.ndarray, "y x 3"],
    values: Float[np.ndarray, "q gy gx"],
    queries: Sequence[tuple[int, int]],
    caption: str,
) -> Figure:
    """What each of some patches reads: a panel a query, the query outlined, one scale for all."""
    columns = min(6, len({column for _, column in queries}))
    rows = -(-len(queries) // columns)
    height, width = pixels.shape[:2]
    panel = 1.6
    wide = panel * columns + 0.9
    figure = sheet(wide, (panel * height / width + 0.27) * rows + 0.35 + caption_height(caption, wide))
    frame = figure.add_gridspec(1, 2, width_ratios=[panel * columns, 0.16])
    panels = frame[0].subgridspec(rows, columns, wspace=0.05, hspace=0.05)
    norm = scale(values)
    high, broad = height / values.shape[1], width / values.shape[2]
    panes = []
    for place, ((row, column), own) in enumerate(zip(queries, values)):
        axes = figure.add_subplot(panels[place // columns, place % columns])
        panes.append(overlay(axes, pixels, own, norm))
        axes.add_patch(Rectangle((column * broad, row * high), broad, high, fill=False, edgecolor="white", linewidth=3))
        axes.add_patch(
            Rectangle((column * broad, row * high), broad, high, fill=False, edgecolor=SECOND, linewidth=1.5)
        )
        axes.set_title(f"row {row}, column {column}", fontsize=7.5)
    bar = figure.colorbar(
        panes[-1], cax=figure.add_subplot(frame[1]), extend="min" if isinstance(norm, LogNorm) else "neither"
    )
    ticks_in_times(bar.ax, norm)
    figure.suptitle(caption, fontsize=8, color=INK, x=0.01, ha="left", wrap=True)
    return figure
