"""Line charts in panels with one vertical axis: the same series, measured in several ways.

Axes:  p points
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitral.report.studies import COLOURS, MARKS, limits
from vitral.report.style import FAINT, sheet, styled

Series = Mapping[str, Float[np.ndarray, "p 4"]]


@styled
def panels_figure(
    panels: Mapping[str, Series], label: str, across: str, log: bool = False, marked: Sequence[int | float] = ()
) -> Figure:
    """One panel per title, one line per series, with points of (x, mean, low, high) in shares of 1.

    The shaded band is the interval. `across` labels the horizontal axis; dashed lines are at `marked` positions on it.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    figure = sheet(8.8, 3.1)
    all_axes: list[Axes] = list(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0])
    for axes, (title, series) in zip(all_axes, panels.items()):
        for name, points in series.items():
            draw_series(axes, names.index(name), name, points, alpha=0.12)
        positions = sorted({x for points in series.values() for x in points[:, 0]})
        if log:
            axes.set_xscale("log", base=2)
            axes.set_xticks(positions, [f"{x:,.0f}" for x in positions])
            axes.minorticks_off()
        else:
            axes.set_xticks(positions[:: max(1, len(positions) // 4)])
        for x in marked:
            if positions and positions[0] <= x <= positions[-1]:
                axes.axvline(x, color=FAINT, lw=0.8, ls="--", alpha=0.7)
        axes.set(title=title, xlabel=across)
    means = [mean for series in panels.values() for points in series.values() for mean in points[:, 1]]
    all_axes[0].set_ylim(*limits(means, percent=True))
    all_axes[0].set_ylabel(label)
    all_axes[0].yaxis.set_major_formatter("{x:.0%}")
    add_legend(all_axes)
    return figure


def draw_series(axes: Axes, number: int, name: str, points: Float[np.ndarray, "p 4"], alpha: float) -> None:
    """A line through the means of (x, mean, low, high), and its interval as a band; `number` chooses the colour."""
    colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
    x, means, low, high = points.T
    if np.isfinite([low, high]).all():  # one seed has no interval
        axes.fill_between(x, low, high, color=colour, alpha=alpha, lw=0)
    axes.plot(x, means, marker=mark, color=colour, ms=3.5, lw=1.3, label=name)
    axes.grid(color=FAINT, lw=0.4, alpha=0.4)


def add_legend(all_axes: Sequence[Axes]) -> None:
    """One legend to the right of the last panel, for the series of all panels."""
    lines = {text: line for axes in all_axes for line, text in zip(*axes.get_legend_handles_labels())}
    all_axes[-1].legend(lines.values(), lines, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
