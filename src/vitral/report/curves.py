"""Loss and accuracy during training, from the records in `metrics.jsonl`."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from vitral.report.style import ACCENT, FAINT, SECOND, sheet, styled

Records = Sequence[Mapping[str, int | float]]


@styled()
def curves_figure(records: Records, num_classes: int) -> Figure:
    """Training as a line, validation as points, and the accuracy of guessing as a dotted line."""
    training = [record for record in records if "train_loss" in record]
    validation = [record for record in records if "best" in record]
    figure = sheet(8.4, 2.7)
    loss, accuracy = figure.subplots(1, 2)
    for axes, name in ((loss, "loss"), (accuracy, "accuracy")):
        for label, subset, key, style in (
            ("training", training, f"train_{name}", dict(color=FAINT, lw=1.4)),
            ("validation", validation, name, dict(color=ACCENT, lw=1, marker="o", ms=3.5)),
        ):
            axes.plot([record["step"] for record in subset], [record[key] for record in subset], label=label, **style)
    loss.set(title="loss (nats)", xlabel="step", ylim=(0, None))
    loss.legend()
    accuracy.axhline(1 / num_classes, color=SECOND, lw=0.9, ls=":")
    offset = dict(xytext=(2, 2), textcoords="offset points")
    accuracy.annotate("chance", (0, 1 / num_classes), color=SECOND, fontsize=7, **offset)
    accuracy.set(title="accuracy", xlabel="step", ylim=(0, 1.02), yticks=[0, 0.25, 0.5, 0.75, 1])
    accuracy.yaxis.set_major_formatter("{x:.0%}")
    return figure
