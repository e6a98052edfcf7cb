"""Loss and accuracy over a run, from the lines of `metrics.jsonl`."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from vitral.report.style import ACCENT, FAINT, SECOND, sheet, styled

Records = Sequence[Mapping[str, int | float]]


@styled
def curves_figure(records: Records, num_classes: int) -> Figure:
    """Training as a line, validation as points; chance is drawn where it lies."""
    training = [record for record in records if "train_loss" in record]
    validation = [record for record in records if "best" in record]
    figure = sheet(8.4, 2.7)
    left, right = figure.subplots(1, 2)
    steps = [record["step"] for record in training]
    at = [record["step"] for record in validation]
    left.plot(steps, [record["train_loss"] for record in training], color=FAINT, lw=1.4, label="training")
    left.plot(at, [record["loss"] for record in validation], "o-", color=ACCENT, ms=3.5, lw=1, label="validation")
    left.set(title="loss (nats)", xlabel="step", ylim=(0, None))
    right.plot(steps, [record["train_accuracy"] for record in training], color=FAINT, lw=1.4, label="training")
    right.plot(at, [record["accuracy"] for record in validation], "o-", color=ACCENT, ms=3.5, lw=1, label="validation")
    right.axhline(1 / num_classes, color=SECOND, lw=0.9, ls=":")
    right.annotate("chance", (0, 1 / num_classes), xytext=(2, 2), textcoords="offset points", color=SECOND, fontsize=7)
    right.set(title="accuracy", xlabel="step", ylim=(0, 1.02))
    right.yaxis.set_major_formatter("{x:.0%}")
    right.yaxis.set_major_locator(percent_ticks())
    left.legend()
    return figure


def percent_ticks():
    from matplotlib.ticker import FixedLocator

    return FixedLocator([0, 0.25, 0.5, 0.75, 1])
