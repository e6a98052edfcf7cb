"""How costs grow with the number of tokens: one panel per cost, one line per method, both axes logarithmic.

Axes:  p points
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from vitral.report.panels import Series, add_legend, draw_series
from vitral.report.style import FAINT, INK, sheet, styled

POWERS = {1: "∝ N", 2: "∝ N²"}


@styled
def scaling_figure(panels: Mapping[tuple[str, str], Series], across: str) -> Figure:
    """Panels by (label, unit), with points of (x, mean, low, high).

    Dotted lines show linear and quadratic growth; they start below the lowest line.
    """
    figure = sheet(9.6, 3.6)
    all_axes: list[Axes] = list(figure.subplots(1, len(panels), squeeze=False)[0])
    for axes, ((label, unit), series) in zip(all_axes, panels.items()):
        for number, (name, points) in enumerate(series.items()):
            draw_series(axes, number, name, points, alpha=0.15)
        axes.set(xscale="log", yscale="log", xlabel=across, title=label)
        if series:
            add_powers(axes, min(series.values(), key=lambda points: points[0, 1])[:, :2])
            positions = max(series.values(), key=len)[::2, 0]
            axes.set_xticks(positions, [f"{x:,.0f}" for x in positions])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter(EngFormatter(unit))
    add_legend(all_axes)
    return figure


def add_powers(axes: Axes, points: Float[np.ndarray, "p 2"]) -> None:
    """Dotted powers of x that start at half the height of the first point and end at the top of the panel."""
    top = axes.get_ylim()[1]
    (first, start), x = points[0], points[:, 0]
    for power, name in POWERS.items():
        heights = start / 2 * (x / first) ** power
        visible = heights < top
        axes.plot(x[visible], heights[visible], ":", color=FAINT, lw=1)
        axes.annotate(name, (x[visible][-1], heights[visible][-1]), fontsize=7, color=INK, ha="right", va="bottom")
