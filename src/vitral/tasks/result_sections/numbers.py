"""Numbers: predicted against true ones, and the images with the largest errors."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from vitral.base.answers.numbers import NumberFigures, deviation, plain
from vitral.report.page import Picture, Section
from vitral.report.style import png
from vitral.report.training import numbers_figure
from vitral.tasks.result_section import WORST


class NumbersSections:
    """See `vitral.tasks.result_section.ResultSections`."""

    def detail(self, figures: NumberFigures, classes: Sequence[str], images: str) -> str:
        low, high = figures.interval
        return (
            f"on {len(figures.labels):,} {images}: R² {figures.value:.2f} (95% "
            f"interval {low:.2f} to {high:.2f}). For comparison, {figures.baseline(classes)}."
        )

    def guess(self, classes: Sequence[str]) -> float | None:
        return 0.0  # R² of the mean

    def sections(self, figures: NumberFigures, classes: Sequence[str]) -> list[Section]:
        lines = [", ".join(filter(None, map(str.strip, line.split("  ")))) + "." for line in figures.lines(classes)]
        picture = Picture(
            png(numbers_figure(figures.values, figures.labels, classes)), "predicted against true numbers"
        )
        text = "One point per image; on the line the prediction is exact. "
        return [Section("How far off the numbers are", text + " ".join(lines), [picture])]

    def errors(self, figures: NumberFigures) -> Float[np.ndarray, "n k"]:
        """Errors over the deviation of each number."""
        found: np.ndarray = figures.errors / deviation(figures.labels)
        return found

    def examples(self, figures: NumberFigures) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
        """The images with the smallest errors, low and high numbers in turn, and those with the largest."""
        order = np.argsort(np.abs(self.errors(figures)).max(axis=1), kind="stable")
        good = order[: max(1, len(order) // 4)]
        by_number = good[np.argsort(figures.labels[good, 0], kind="stable")]
        ends = dict.fromkeys(int(index) for pair in zip(by_number, by_number[::-1]) for index in pair)
        rest = order[len(good) :]
        return np.array(list(ends), dtype=int), rest[::-1][:WORST]

    def verdict(self, figures: NumberFigures, classes: Sequence[str], index: int) -> tuple[str, str]:
        return " and ".join(
            f"{name} {plain(float(value))} predicted, {plain(float(truth))} true"
            for name, value, truth in list(zip(classes, figures.values[index], figures.labels[index]))[:3]
        ), ""

    def mistakes(self, figures: NumberFigures, classes: Sequence[str]) -> tuple[int, str]:
        count = len(self.examples(figures)[1])
        measured = "" if len(classes) == 1 else ", in standard deviations of each number"
        return count, f"These images have the largest errors{measured}: true → predicted number."

    def mistake(self, figures: NumberFigures, classes: Sequence[str], index: int) -> str:
        worst = int(np.abs(self.errors(figures)[index]).argmax())
        truth, value = figures.labels[index, worst], figures.values[index, worst]
        return f"{classes[worst]}\n{plain(float(truth))} → {plain(float(value))}"


numbers = NumbersSections()
