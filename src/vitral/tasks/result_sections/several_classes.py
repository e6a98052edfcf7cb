"""Several classes at once: average precision per class, and the images whose classes are most wrong."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from vitral.base.answers.several_classes import LabelFigures
from vitral.report.page import Picture, Section
from vitral.report.style import png
from vitral.report.training import average_precisions_figure
from vitral.tasks.result_section import WORST


class SeveralClassesSections:
    """See `vitral.tasks.result_section.ResultSections`."""

    def detail(self, figures: LabelFigures, classes: Sequence[str], images: str) -> str:
        low, high = figures.interval
        return (
            f"on {len(figures.labels):,} {images} (95% interval {low:.1%} to "
            f"{high:.1%}); {figures.exact:.1%} of the images are given all their classes and no other. For comparison: "
            f"{figures.baseline(classes)}."
        )

    def guess(self, classes: Sequence[str]) -> float | None:
        return None

    def sections(self, figures: LabelFigures, classes: Sequence[str]) -> list[Section]:
        figure = average_precisions_figure(figures.average_precisions, figures.labels.mean(axis=0), classes)
        text = (
            "Average precision: images are ranked by the probability of the class; the share of images with the class "
            "is taken from the top down to each image that has it, and averaged. The mark is chance, the share of "
            "images with the class; a class without images has no bar."
        )
        return [Section("How well each class is found", text, [Picture(png(figure), "average precision per class")])]

    def wrongness(self, figures: LabelFigures) -> Float[np.ndarray, " n"]:
        """Each image's largest distance between a class's probability and the truth, 0 to 1."""
        found: np.ndarray = np.abs(figures.values - figures.labels).max(axis=1)
        return found

    def examples(self, figures: LabelFigures) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
        """The best answered images with different classes, and the images with a wrong class, worst first."""
        order = np.argsort(self.wrongness(figures), kind="stable")
        exact = (figures.answers == figures.labels).all(axis=1)
        right = order[exact[order]]
        _, first = np.unique(figures.labels[right], axis=0, return_index=True)
        return right[np.sort(first)], order[~exact[order]][::-1][:WORST]

    def verdict(self, figures: LabelFigures, classes: Sequence[str], index: int) -> tuple[str, str]:
        found, truth = (words(row[index], classes) for row in (figures.answers, figures.labels))
        return (f"right: {truth}" if found == truth else f"wrong: {found} instead of {truth}"), ""

    def mistakes(self, figures: LabelFigures, classes: Sequence[str]) -> tuple[int, str]:
        count = int((figures.answers != figures.labels).any(axis=1).sum())
        return count, (
            f"{count:,} of {len(figures.labels):,} images are given a class too many or too few. These have the "
            "probability that is furthest from the truth: true classes → predicted classes."
        )

    def mistake(self, figures: LabelFigures, classes: Sequence[str], index: int) -> str:
        return f"{words(figures.labels[index], classes)}\n→ {words(figures.answers[index], classes)}"


def words(has: np.ndarray, classes: Sequence[str]) -> str:
    """The classes of an image, at most three of them."""
    found = [name for name, there in zip(classes, has) if there]
    return " + ".join(found[:3]) + (" ..." if len(found) > 3 else "") or "none"


several_classes = SeveralClassesSections()
