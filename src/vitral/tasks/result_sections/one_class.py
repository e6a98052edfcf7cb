"""One class of many: accuracy, confusion, and the mistakes with the highest probability."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from vitral.base.answers.one_class import ClassFigures
from vitral.data.class_names import list_names
from vitral.report.page import Picture, Section
from vitral.report.style import png
from vitral.report.training import confusion_figure
from vitral.tasks.confusion_table import CONFUSION
from vitral.tasks.result_section import WORST

MAX_ROWS = 60  # classes in the table


class OneClassSections:
    """See `vitral.tasks.result_section.ResultSections`."""

    def detail(self, figures: ClassFigures, classes: Sequence[str], images: str) -> str:
        low, high = figures.interval
        untested = [name for name, total in zip(classes, figures.confusion.sum(axis=1)) if not total]
        lacking = f" Not tested, for lack of images: {list_names(untested)}." if untested else ""
        return (
            f"on {len(figures.labels):,} {images} (95% interval {low:.1%} to "
            f"{high:.1%}). Balanced accuracy, in which each class counts alike: {figures.balanced_words}. For "
            f"comparison, {figures.baseline(classes)}.{lacking}"
        )

    def guess(self, classes: Sequence[str]) -> float | None:
        return 1 / len(classes)

    def sections(self, figures: ClassFigures, classes: Sequence[str]) -> list[Section]:
        picture = Picture(png(confusion_figure(figures.confusion, classes)), describe_confusion(figures, classes))
        text = (
            "One row per true class, one column per predicted class; the colour is the share of the row. The numbers "
            f"are in {CONFUSION}."
        )
        return [Section("Which classes are confused", text, [picture]), class_section(figures, classes)]

    def examples(self, figures: ClassFigures) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
        """The correct image with the highest probability in each class, and the mistakes, surest first."""
        sure = np.argsort(-figures.values.max(axis=1), kind="stable")
        correct = figures.answers == figures.labels
        right, labels = sure[correct[sure]], figures.labels
        different = [int(right[labels[right] == label][0]) for label in dict.fromkeys(labels[right].tolist())]
        return np.array(different, dtype=int), sure[~correct[sure]][:WORST]

    def verdict(self, figures: ClassFigures, classes: Sequence[str], index: int) -> tuple[str, str]:
        truth, answer = classes[figures.labels[index]], classes[figures.answers[index]]
        words = f"right: {truth}" if truth == answer else f"wrong: {answer} instead of {truth}"
        return words, f", with probability {figures.values[index].max():.0%}"

    def mistakes(self, figures: ClassFigures, classes: Sequence[str]) -> tuple[int, str]:
        count = int((figures.answers != figures.labels).sum())
        return count, (
            f"{count:,} of {len(figures.labels):,} predictions were wrong. "
            "These have the highest probability: true class → predicted class."
        )

    def mistake(self, figures: ClassFigures, classes: Sequence[str], index: int) -> str:
        truth, answer = classes[figures.labels[index]], classes[figures.answers[index]]
        return f"{truth} → {answer}\n{figures.values[index].max():.0%} sure"


def class_section(figures: ClassFigures, classes: Sequence[str]) -> Section:
    """Precision, recall and F1 of each class, the lowest F1 first."""
    columns = figures.recall, figures.precision, figures.f1
    order = np.argsort(np.where(np.isnan(figures.f1), 2, figures.f1), kind="stable")[:MAX_ROWS]
    rows = [
        (
            classes[i],
            f"{figures.confusion[i].sum():,}",
            *("-" if np.isnan(own[i]) else f"{own[i]:.1%}" for own in columns),
        )
        for i in order
    ]
    left_out = (
        f" {len(classes) - len(rows):,} classes with higher F1 are not shown." if len(classes) > len(rows) else ""
    )
    text = (
        "Recall is the share of a class's images that are predicted as it; precision the share of the images predicted "
        f"as it that are of it; F1 their harmonic mean. The lowest F1 comes first.{left_out}"
    )
    heading = ("class", "images", "recall", "precision", "F1")
    return Section("How well each class is recognised", text, table=(heading, *rows))


def describe_confusion(test: ClassFigures, classes: Sequence[str]) -> str:
    """The share of right answers, and the most frequent mistake, in words and numbers."""
    mistakes = np.array(test.confusion)
    np.fill_diagonal(mistakes, 0)
    text = f"Confusion matrix of {len(test.labels):,} images, {test.accuracy:.1%} of them on the diagonal."
    if not mistakes.any():
        return text
    truth, answer = map(int, np.unravel_index(int(mistakes.argmax()), mistakes.shape))
    return (
        f"{text} The most frequent mistake is {classes[answer]} instead of {classes[truth]}, "
        f"{mistakes[truth, answer]} times."
    )


one_class = OneClassSections()
