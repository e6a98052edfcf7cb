"""Figures of a training run: how an image becomes tokens, what was learned and how fast, and what is confused.

Axes:  k classes   y x pixels
"""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from vitral.report.style import ACCENT, FAINT, INK, SECOND, hide_axes, sheet, show_image, styled

Records = Sequence[Mapping[str, int | float]]  # of metrics.jsonl
MAX_NUMBERED = 25  # classes of a confusion matrix; with more, the numbers would be too small to read
MAX_BARS = 40  # classes with a bar of average precision
MAX_PANELS = 9  # numbers with a panel
SHOWN = 7  # tokens at the beginning of the sequence


@styled()
def tokens_figure(
    pixels: UInt8[np.ndarray, "y x 3"], patch: tuple[int, int], num_prefix_tokens: int, embed_dim: int
) -> Figure:
    """The image, its patches with gaps between them, and the sequence that enters the first block."""
    height, width = pixels.shape[:2]
    rows, columns = height // patch[0], width // patch[1]
    figure = sheet(9.4, 2.75)
    image, cut, sequence = figure.subplots(1, 3, width_ratios=[1, 1.12, 2.2])
    show_image(image, pixels, f"image\n{height} × {width} × 3 numbers")
    gap = max(1, patch[0] // 6)
    canvas = np.full((rows * (patch[0] + gap) - gap, columns * (patch[1] + gap) - gap, 3), 255, np.uint8)
    patches = []
    for row in range(rows):
        for column in range(columns):
            patches.append(pixels[row * patch[0] : (row + 1) * patch[0], column * patch[1] : (column + 1) * patch[1]])
            top, left = row * (patch[0] + gap), column * (patch[1] + gap)
            canvas[top : top + patch[0], left : left + patch[1]] = patches[-1]
    size = f"of {patch[0]} × {patch[1]} × 3 = {patch[0] * patch[1] * 3} numbers"
    show_image(cut, canvas, f"{rows} × {columns} = {rows * columns} patches\n{size}")
    hide_axes(sequence)

    # Show the row of patches with the most contrast: the first patches are often plain background.
    busiest = int(np.argmax([piece.std(axis=(0, 1)).sum() for piece in patches]))
    first = min(busiest // columns * columns, max(0, len(patches) - SHOWN + num_prefix_tokens))
    sequence.set(xlim=(-0.3, SHOWN + 1.1), ylim=(3.35, -0.5))
    for place in range(min(SHOWN, num_prefix_tokens + len(patches))):
        index = place if place < num_prefix_tokens else first + place
        if place < num_prefix_tokens:
            add_box(sequence, place + 0.1, 0.1, 0.8, 0.8, SECOND)
            name = "CLS" if place == 0 else "reg"
            sequence.text(place + 0.5, 0.5, name, color="white", ha="center", va="center", fontsize=8, weight="bold")
        elif index - num_prefix_tokens < len(patches):
            sequence.imshow(patches[index - num_prefix_tokens], extent=(place + 0.1, place + 0.9, 0.9, 0.1))
        arrow = dict(arrowstyle="->", color=FAINT, lw=0.9)
        sequence.annotate("", (place + 0.5, 1.62), (place + 0.5, 1.0), arrowprops=arrow)
        add_box(sequence, place + 0.32, 1.7, 0.36, 0.95, SECOND if place < num_prefix_tokens else ACCENT)
        sequence.text(place + 0.5, 2.9, f"+ p{index}", ha="center", va="center", fontsize=7.5, color=INK)
    sequence.text(SHOWN + 0.45, 2.15, "· · ·", ha="center", va="center", color=FAINT)
    text = "one linear layer for all patches; one learned position per token"
    sequence.text(SHOWN / 2, 3.25, text, ha="center", fontsize=7.5, color=INK)
    sequence.set_title(f"sequence\n{rows * columns + num_prefix_tokens} tokens of {embed_dim} numbers")
    sequence.set_aspect("auto")
    return figure


def add_box(axes: Axes, left: float, top: float, width: float, height: float, colour: str) -> None:
    """A filled box with rounded corners."""
    corners = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((left, top), width, height, boxstyle=corners, fc=colour, ec="none"))


@styled()
def curves_figure(records: Records, measure: str, guess: float | None) -> Figure:
    """Training as a line, validation as points: the loss, and the `measure` with that of guessing as a dotted line."""
    training = [record for record in records if "train_loss" in record]
    validation = [record for record in records if "best" in record]
    figure = sheet(8.4, 2.7)
    loss, measured = figure.subplots(1, 2)
    for axes, name in ((loss, "loss"), (measured, measure)):
        for label, subset, key, style in (
            ("training", training, f"train_{name}", dict(color=FAINT, lw=1.4)),
            ("validation", validation, name, dict(color=ACCENT, lw=1, marker="o", ms=3.5)),
        ):
            own = [record for record in subset if record.get(key) is not None]  # training may have no such figure
            axes.plot([record["step"] for record in own], [record[key] for record in own], label=label, **style)
    is_share = measure != "R2"
    loss.set(title="loss (nats)" if is_share else "loss (squared error over variance)", xlabel="step", ylim=(0, None))
    loss.legend()
    if guess is not None:
        measured.axhline(guess, color=SECOND, lw=0.9, ls=":")
        # At the right end, where the curves have left it.
        place = dict(xy=(1, guess), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points")
        measured.annotate("chance" if is_share else "always the mean", **place, ha="right", color=SECOND, fontsize=7)
    measured.set(title=measure if is_share else "R²", xlabel="step")
    if is_share:
        measured.set(ylim=(0, 1.02), yticks=[0, 0.25, 0.5, 0.75, 1])
        measured.yaxis.set_major_formatter("{x:.0%}")
    else:
        measured.set(ylim=(max(-0.5, min([0.0, *measured.get_ylim()])), 1.02))
    return figure


@styled()
def average_precisions_figure(
    precisions: Float[np.ndarray, " k"], shares: Float[np.ndarray, " k"], classes: Sequence[str]
) -> Figure:
    """One bar per class, the best first, with a mark at the class's share of the images, which is chance."""
    order = np.argsort(np.where(np.isnan(precisions), 2, -precisions), kind="stable")[:MAX_BARS]
    figure = sheet(7.2, max(1.6, 0.24 * len(order) + 0.9))
    axes = figure.subplots()
    places = np.arange(len(order))
    axes.barh(places, np.nan_to_num(precisions[order]), color=ACCENT, height=0.7)
    axes.scatter(shares[order], places, marker="|", s=90, color=SECOND, label="chance")
    left_out = f"; {len(classes) - len(order)} more classes not shown" if len(classes) > len(order) else ""
    axes.set_yticks(places, [classes[index] for index in order])
    axes.set(xlim=(0, 1.02), ylim=(len(order) - 0.4, -0.6), xlabel=f"average precision{left_out}")
    axes.xaxis.set_major_formatter("{x:.0%}")
    axes.legend()
    return figure


@styled()
def numbers_figure(values: Float[np.ndarray, "n k"], labels: Float[np.ndarray, "n k"], names: Sequence[str]) -> Figure:
    """Predicted over true numbers, a panel per number, with the line on which both are equal."""
    count = min(len(names), MAX_PANELS)
    figure = sheet(2.9 * min(count, 3) + 0.4, 2.9 * -(-count // 3))
    panels = figure.subplots(-(-count // 3), min(count, 3), squeeze=False).ravel()
    for index, axes in enumerate(panels):
        if index >= count:
            hide_axes(axes)
            axes.set_frame_on(False)
            continue
        ends = [float(labels[:, index].min()), float(labels[:, index].max())]
        axes.plot(ends, ends, color=SECOND, lw=0.9, ls=":")
        axes.scatter(labels[:, index], values[:, index], s=9, color=ACCENT, alpha=0.6, linewidths=0)
        axes.set(title=names[index], xlabel="true", ylabel="predicted")
    return figure


@styled()
def confusion_figure(matrix: Int[np.ndarray, "k k"], classes: Sequence[str]) -> Figure:
    """One row per true class, one column per predicted class; colours are shares of the row, numbers are counts."""
    count = len(classes)
    side = min(max(3.4, 0.46 * count + 1.2), 12)
    figure = sheet(side + 0.6, side)
    axes = figure.subplots()
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    axes.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1)  # the square root keeps 1 % visible
    axes.set_xticks(range(count), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(count), classes)
    axes.set(xlabel="predicted class", ylabel="true class")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    if count <= MAX_NUMBERED:
        for row, column in np.argwhere(matrix):
            colour = "white" if share[row, column] > 0.4 else INK
            text = str(matrix[row, column])
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    return figure
