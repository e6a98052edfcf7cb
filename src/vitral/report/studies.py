"""Figures of what a study found: one dot per seed, and every mean with its interval.

Axes:  n seeds
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from vitral.report.style import ACCENT, FAINT, INK, SECOND, sheet, styled

COLOURS = (ACCENT, SECOND, INK, "#5a8f3c", "#8a5aa3", "#b8912a", FAINT, "#c2457e")
MARKS = "os^Dv<>P"


@dataclass(frozen=True)
class Row:
    """One line of a figure: a name, one value per seed, and the mean with the low and high end of its interval."""

    name: str
    values: Float[np.ndarray, " n"]
    interval: tuple[float, float, float]


def limits(found: Sequence[int | float], percent: bool) -> tuple[float, float]:
    """Axis limits around all finite values, with a small margin; shares stay within 0 and 1."""
    finite = [value for value in found if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    margin = 0.05 * ((high - low) or 1.0)
    return (
        (max(low - margin, -0.02), min(high + margin, 1.02)) if percent and low >= 0 else (low - margin, high + margin)
    )


@styled
def dots_figure(panels: Mapping[str, Sequence[Row]], label: str, percent: bool = True) -> Figure:
    """One panel per condition, one row per arm. Faint dots are seeds, the bar is the 95 % interval of their mean."""
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
def findings_figure(rows: Sequence[tuple[str, Row, tuple[float, ...]]]) -> Figure:
    """One line per hypothesis: its effect for each seed, the interval, and the limits of its rule (dashed).

    A row is (sentence, effects, limits).
    """
    figure = sheet(8.4, 0.5 + 0.42 * len(rows))
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (sentence, row, borders) in zip(axes, rows):
        mean, left, right = row.interval
        axis.set_xlim(*limits([left, right, *row.values, *borders, 0.0], percent=False))
        for border in borders:
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
