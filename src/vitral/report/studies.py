"""Figures of what a study found: one dot per seed, every mean with its interval, and costs as they grow.

Axes:  n seeds   p points
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from vitral.report.style import ACCENT, FAINT, INK, SECOND, sheet, styled

COLOURS = (ACCENT, SECOND, INK, "#5a8f3c", "#8a5aa3", "#b8912a", FAINT, "#c2457e")
MARKS = "os^Dv<>P"
Series = Mapping[str, Float[np.ndarray, "p 4"]]
POWERS = {1: "∝ N", 2: "∝ N²"}


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


@styled()
def dots_figure(panels: Mapping[str, Sequence[Row]], label: str, percent: bool = True) -> Figure:
    """One panel per condition, one row per arm. Faint dots are seeds, the bar is the 95 % interval of their mean."""
    shown = {name: rows for name, rows in panels.items() if rows}
    names = list(dict.fromkeys(row.name for rows in shown.values() for row in rows))
    count = max(1, len(shown))
    figure = sheet(min(10.5, 1.6 + 2.3 * count), 0.75 + 0.3 * max(1, len(names)))
    axes = figure.subplots(1, count, sharey=True, squeeze=False)[0]
    every = [value for rows in shown.values() for row in rows for value in row.values]
    ends = [end for rows in shown.values() for row in rows for end in row.interval[1:]]
    every += [min(max(end, 0.0), 1.0) for end in ends] if percent and min(every, default=0.0) >= 0 else ends
    for axis, (title, rows) in zip(axes, shown.items()):
        for row in rows:
            draw_row(axis, row, names.index(row.name), 0.9)
        axis.set(title=title, yticks=range(len(names)), yticklabels=names, xlim=limits(every, percent))
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.grid(axis="x", color=FAINT, lw=0.4, alpha=0.4)
        axis.tick_params(axis="y", length=0)
        if percent:
            axis.xaxis.set_major_formatter("{x:.0%}")
        axis.locator_params(axis="x", nbins=4)
    figure.supxlabel(label, fontsize=9)
    return figure


def draw_row(axes: Axes, row: Row, height: int, alpha: float) -> None:
    """One seed per dot, and their mean on its interval; one seed alone has no interval."""
    mean, low, high = row.interval
    if math.isfinite(low):
        axes.plot([low, high], [height, height], color=ACCENT, lw=2.4, alpha=0.55, solid_capstyle="round")
    axes.plot(row.values, np.full(len(row.values), height), "o", color=FAINT, ms=3, mec="none", alpha=alpha)
    axes.plot(mean, height, "o", color=ACCENT, ms=5.5, mec="white", mew=0.8)


@styled()
def findings_figure(rows: Sequence[tuple[str, Row, tuple[float, ...]]]) -> Figure:
    """One line per hypothesis: its effect for each seed, the interval, and the limits of its rule (dashed).

    A row is (sentence, effects, limits).
    """
    figure = sheet(8.4, 0.5 + 0.42 * len(rows))
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, (sentence, row, borders) in zip(axes, rows):
        axis.set_xlim(*limits([*row.interval[1:], *row.values, *borders, 0.0], percent=False))
        for border in borders:
            axis.axvline(border, color=SECOND, lw=1, ls="--")
        axis.axvline(0, color=FAINT, lw=0.8)
        draw_row(axis, row, 0, 1.0)
        axis.set(yticks=[], ylim=(-1, 1))
        axis.set_title(sentence, loc="left", fontsize=8, pad=2)
        axis.spines["left"].set_visible(False)
        axis.locator_params(axis="x", nbins=6)
        axis.tick_params(axis="x", labelsize=7)
    return figure


@styled()
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


@styled()
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
