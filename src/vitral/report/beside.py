"""Lines beside each other: the same series measured in more than one way.

Axes:  p points
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vitral.report.studies import COLOURS, MARKS, limits
from vitral.report.style import FAINT, sheet, styled

Series = Mapping[str, Float[np.ndarray, "p 4"]]


@styled
def beside_figure(
    panels: Mapping[str, Series], label: str, across: str, log: bool = False, marked: Sequence[int | float] = ()
) -> Figure:
    """Panels of one height, each with a line a series, of (place, mean, low, high) a point; the shade is its interval.

    Heights are shares of 1. The places that are `marked` have a line of their own.
    """
    names = list(dict.fromkeys(name for series in panels.values() for name in series))
    figure = sheet(8.8, 3.1)
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axis, (title, series) in zip(axes, panels.items()):
        for name, points in series.items():
            number = names.index(name)
            colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
            places, means, low, high = points.T
            if np.isfinite(low).all():
                axis.fill_between(places, low, high, color=colour, alpha=0.12, lw=0)
            axis.plot(places, means, marker=mark, color=colour, ms=3.5, lw=1.3, label=name)
        places = sorted({place for points in series.values() for place in points[:, 0]})
        if log:
            axis.set_xscale("log", base=2)
            axis.set_xticks(places, [f"{place:,.0f}" for place in places])
            axis.minorticks_off()
        else:
            axis.set_xticks(places[:: max(1, len(places) // 4)])
        for place in marked:
            if places and places[0] <= place <= places[-1]:
                axis.axvline(place, color=FAINT, lw=0.8, ls="--", alpha=0.7)
        axis.set(title=title, xlabel=across)
        axis.grid(color=FAINT, lw=0.4, alpha=0.4)
    every = [value for series in panels.values() for points in series.values() for value in points[:, 1]]
    axes[0].set_ylim(*limits(every, percent=True))
    axes[0].set_ylabel(label)
    axes[0].yaxis.set_major_formatter("{x:.0%}")
    shown = {text: line for axis in axes for line, text in zip(*axis.get_legend_handles_labels())}
    axes[-1].legend(shown.values(), shown, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure
