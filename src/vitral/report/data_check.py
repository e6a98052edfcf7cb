"""Figures of a folder of images: how many of each class, how large, and which are copies.

Axes:  n images   k classes   y x pixels
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Int, UInt8
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator, NullLocator

from vitral.report.style import ACCENT, FAINT, INK, SECOND, sheet, show_image, styled

MAX_CLASSES = 40
LONG = 34  # letters of a title; a path is cut at its front
COLOURS = {"train": ACCENT, "val": FAINT, "test": SECOND}


@styled()
def class_sizes_figure(counts: Mapping[str, Int[np.ndarray, " k"]], classes: Sequence[str]) -> Figure:
    """One bar per class, the largest first, divided by split."""
    total = np.sum(list(counts.values()), axis=0)
    order = np.argsort(-total, kind="stable")[:MAX_CLASSES]
    figure = sheet(6.4, 0.24 * len(order) + 1.0)
    axes = figure.subplots()
    left = np.zeros(len(order))
    for split, own in counts.items():
        axes.barh(range(len(order)), own[order], left=left, color=COLOURS.get(split, INK), label=split, height=0.7)
        left += own[order]
    axes.set(yticks=range(len(order)), xlabel="images", ylim=(len(order) - 0.4, -0.6))
    axes.set_yticklabels([classes[index] for index in order])
    axes.tick_params(length=0, colors=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    if len(total) > len(order):
        axes.set_title(f"the {len(order)} largest of {len(total)} classes", fontsize=8)
    return figure


@styled()
def image_sizes_figure(sizes: Int[np.ndarray, "n 2"], model: tuple[int, int] | None) -> Figure:
    """Width and height of each image, and the (height, width) that the model takes."""
    figure = sheet(4.6, 4.0)
    axes = figure.subplots()
    axes.scatter(sizes[:, 0], sizes[:, 1], s=14, color=ACCENT, alpha=0.4, linewidths=0)
    if model is not None:
        axes.scatter(model[1], model[0], s=60, marker="+", color=SECOND, label="what the model takes")
        figure.legend(loc="outside upper right", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="width in pixels", ylabel="height in pixels")
    for axis, values in ((axes.xaxis, sizes[:, 0]), (axes.yaxis, sizes[:, 1])):
        ends = [*values, *(model or ())]
        ticks = [2**power for power in range(16) if min(ends) / 2 <= 2**power <= 2 * max(ends)]
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axis.set_minor_locator(NullLocator())
    axes.tick_params(colors=INK)
    return figure


@styled()
def copies_figure(pairs: Sequence[Sequence[UInt8[np.ndarray, "y x 3"]]], titles: Sequence[Sequence[str]]) -> Figure:
    """Two images per row, each with its split and file."""
    figure = sheet(5.6, 2.3 * len(pairs))
    for row, images, names in zip(figure.subplots(len(pairs), 2, squeeze=False), pairs, titles):
        for axes, image, name in zip(row, images, names):
            show_image(axes, image, "")
            axes.set_xlabel(shortened(name), fontsize=7)
    return figure


def shortened(name: str) -> str:
    """The end of a long name.

    >>> shortened("train: a.png")
    'train: a.png'
    """
    split, _, file = name.partition(": ")
    return name if len(name) <= LONG else f"{split}: ...{file[-(LONG - len(split) - 5) :]}" if file else Path(name).name
