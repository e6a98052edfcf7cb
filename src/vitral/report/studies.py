"""What a study found, drawn: every seed a dot, every mean with its interval.

Axes:  n seeds   p points
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitral.report.style import ACCENT, FAINT, INK, SECOND, sheet, styled

COLOURS = (ACCENT, SECOND, INK, "#5a8f3c", "#8a5aa3", "#b8912a", FAINT, "#c2457e")
MARKS = "os^Dv<>P"


@dataclass(frozen=True)
class Row:
    """A line of a figure: a name, a value a seed, and mean, low and high end of its interval."""

    name: str
    values: Float[np.ndarray, " n"]
    interval: tuple[float, float, float]


def limits(found: Sequence[int | float], percent: bool) -> tuple[float, float]:
    """An axis that holds all finite values with a little room; shares stay within 0 and 1."""
    finite = [value for value in found if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    room = 0.05 * ((high - low) or 1.0)
    return (max(low - room, -0.02), min(high + room, 1.02)) if percent and low >= 0 else (low - room, high + room)


@styled
def dots_figure(panels: Mapping[str, Sequence[Row]], label: str, percent: bool = True) -> Figure:
    """A panel a condition, a row an arm; faint dots are seeds, the bar is the 95 % interval of their mean."""
    shown = {name: rows for name, rows in panels.items() if rows}
    names = list(dict.fromkeys(row.name for rows in shown.values() for row in rows))
    count = max(1, len(shown))
    figure = sheet(min(10.5, 1.6 + 2.3 * count), 0.75 + 0.3 * max(1, len(names)))
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    every = [value for rows in shown.values() for row in rows for value in row.values]
    for axis, (title, rows) in zip(axes, shown.items()):
        for row in rows:
            height = names.index(row.name)
            mean, low, high = row.interval
            if math.isfinite(low):
                axis.plot([low, high], [height, height], color=ACCENT, lw=2.4, alpha=0.55, solid_capstyle="round")
            axis.plot(row.values, np.full(len(row.values), height), "o", color=FAINT, ms=3, mec="none", alpha=0.9)
            axis.plot(mean, height, "o", color=ACCENT, ms=5.5, mec="white", mew=0.8)
        axis.set(title=title, yticks=range(len(names)), yticklabels=names, xlim=limits(every, percent))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="x", color=FAINT, lw=0.4, alpha=0.4)
        axis.tick_params(axis="y", length=0)
        if percent:
            axis.xaxis.set_major_formatter("{x:.0%}")
        axis.locator_params(axis="x", nbins=4)
    figure.supxlabel(label, fontsize=9)
    return figure


@styled
def lines_figure(
    series: Mapping[str, Float[np.ndarray, "p 4"]],
    label: str,
    across: str,
    log: bool = True,
    percent: bool = True,
    marks: Mapping[str, int | float] = {},
) -> Figure:
    """A line a series, of (place, mean, low, high) a point; the shade is its interval. `marks` are named heights."""
    figure = sheet(6.8, 3.4)
    axis: Axes = figure.subplots()
    for number, (name, points) in enumerate(series.items()):
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        places, means, low, high = points.T
        if np.isfinite(low).all():
            axis.fill_between(places, low, high, color=colour, alpha=0.13, lw=0)
        axis.plot(places, means, marker=mark, color=colour, ms=4, lw=1.4, label=name)
    every = [value for points in series.values() for value in points[:, 1]]
    for name, height in marks.items():
        axis.axhline(height, color=FAINT, lw=0.9, ls=":")
        axis.annotate(
            name, (1, height), xycoords=("axes fraction", "data"), fontsize=7, color=INK, ha="right", va="bottom"
        )
    axis.set(xlabel=across, ylabel=label)
    if every:
        axis.set_ylim(*limits([*every, *marks.values()], percent))
    if log:
        axis.set_xscale("log", base=2)
        places = sorted({place for points in series.values() for place in points[:, 0]})
        axis.set_xticks(places, [f"{place:,.0f}" for place in places])
        axis.minorticks_off()
    if percent:
        axis.yaxis.set_major_formatter("{x:.0%}")
    axis.grid(color=FAINT, lw=0.4, alpha=0.4)
    axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    return figure


@styled
def findings_figure(rows: Sequence[tuple[str, Row, float | None, float | None]]) -> Figure:
    """Each hypothesis a line: its effect a seed, the interval, and between which borders its rule would refute it.

    A row is (sentence, values, low border, high border); a border that is None is not there.
    """
    figure = sheet(8.4, 0.5 + 0.42 * len(rows))
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (sentence, row, low, high) in zip(axes, rows):
        mean, left, right = row.interval
        ends = [value for value in (left, right, *row.values, low, high, 0.0) if value is not None]
        axis.set_xlim(*limits(ends, percent=False))
        for border in (low, high):
            if border is not None:
                axis.axvline(border, color=SECOND, lw=1, ls="--")
        axis.axvline(0, color=FAINT, lw=0.8)
        if math.isfinite(left):
            axis.plot([left, right], [0, 0], color=ACCENT, lw=2.4, alpha=0.55, solid_capstyle="round")
        axis.plot(row.values, np.zeros(len(row.values)), "o", color=FAINT, ms=3, mec="none")
        axis.plot(mean, 0, "o", color=ACCENT, ms=5.5, mec="white", mew=0.8)
        axis.set(yticks=[], ylim=(-1, 1))
        axis.set_title(sentence, loc="left", fontsize=8, pad=2)
        axis.spines["left"].set_visible(False)
        axis.locator_params(axis="x", nbins=6)
        axis.tick_params(axis="x", labelsize=7)
    return figure
