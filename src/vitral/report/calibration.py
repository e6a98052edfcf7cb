"""The reliability diagram (Guo et al. 2017, §2): how often answers are right, over their probability."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from vitral.base.calibration import Bin, Reliability
from vitral.base.intervals import interval
from vitral.report.style import ACCENT, FAINT, INK, SECOND, sheet, styled


@styled()
def reliability_figure(found: Sequence[tuple[str, Reliability]]) -> Figure:
    """One panel per title and `Reliability`: a point per bin with its 95 % interval, and below it how many images."""
    figure = sheet(3.5 * len(found) + 0.4, 3.9)
    panels = figure.subplots(2, len(found), squeeze=False, height_ratios=[3, 1], sharex=True)
    for column, (title, one) in enumerate(found):
        bins = [own for own in one.bins if own.n]
        draw_bins(panels[0, column], bins)
        panels[0, column].set_title(f"{title}\ncalibration error {one.error:.1%}")
        counts: Axes = panels[1, column]
        width = one.bins[0].high - one.bins[0].low
        counts.bar([own.low for own in bins], [own.n for own in bins], width, align="edge", color=FAINT, ec="white")
        counts.set(xlim=(0, 1), xlabel="probability of the answer", ylabel="images")
        counts.xaxis.set_major_formatter("{x:.0%}")
    panels[0, 0].set_ylabel("share of right answers")
    return figure


def draw_bins(axes: Axes, bins: Sequence[Bin]) -> None:
    """The diagonal of perfect calibration, and the bins."""
    axes.plot([0, 1], [0, 1], color=SECOND, lw=0.9, ls=":")
    for own in bins:
        axes.plot([own.confidence] * 2, interval(own.accuracy, own.n), color=FAINT, lw=1)
    axes.plot([own.confidence for own in bins], [own.accuracy for own in bins], color=ACCENT, lw=0, marker="o", ms=4)
    axes.set(ylim=(0, 1.02), xlim=(0, 1))
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.tick_params(colors=INK)
