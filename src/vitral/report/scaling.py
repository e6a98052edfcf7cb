"""How costs grow: a panel a cost, a line a way to pay it, both axes logarithmic.

Axes:  p points
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from vitral.report.studies import COLOURS, MARKS
from vitral.report.style import FAINT, INK, sheet, styled

POWERS = {1: "∝ N", 2: "∝ N²"}


@styled
def scaling_figure(panels: Mapping[tuple[str, str], Mapping[str, Float[np.ndarray, "p 4"]]], across: str) -> Figure:
    """Panels by (label, unit); a line a series, of (place, mean, low, high) a point.

    Dotted are powers, which start a little below the lowest line.
    """
    figure = sheet(9.6, 3.6)
    axes: Sequence[Axes] = figure.subplots(1, len(panels), squeeze=False)[0]
    for axis, ((label, unit), series) in zip(axes, panels.items()):
        for number, (name, points) in enumerate(series.items()):
            colour = COLOURS[number % len(COLOURS)]
            places, means, low, high = points.T
            if np.isfinite(high).all():
                axis.fill_between(places, low, high, color=colour, alpha=0.15, lw=0)
            axis.plot(places, means, marker=MARKS[number % len(MARKS)], color=colour, ms=3.5, lw=1.3, label=name)
        axis.set(xscale="log", yscale="log", xlabel=across, title=label)
        if series:
            guide(axis, min(series.values(), key=lambda points: points[0, 1])[:, :2])
            places = max(series.values(), key=len)[::2, 0]
            axis.set_xticks(places, [f"{place:,.0f}" for place in places])
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(EngFormatter(unit))
        axis.grid(color=FAINT, lw=0.4, alpha=0.4)
    axes[-1].legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


def guide(axis: Axes, points: Float[np.ndarray, "p 2"]) -> None:
    """Powers through the first point of a line, a little below it; within the height that the lines have."""
    top = axis.get_ylim()[1]
    (first, start), places = points[0], points[:, 0]
    for power, name in POWERS.items():
        heights = start / 2 * (places / first) ** power
        shown = heights < top
        axis.plot(places[shown], heights[shown], ":", color=FAINT, lw=1)
        axis.annotate(name, (places[shown][-1], heights[shown][-1]), fontsize=7, color=INK, ha="right", va="bottom")
