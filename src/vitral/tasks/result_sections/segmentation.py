"""Segmentation: overlap and boundaries of each class, and the images with the least overlap."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int, UInt8

from vitral.base.answers.segmentation import MaskFigures, class_map, percent
from vitral.data.class_names import list_names
from vitral.data.dataset import Split
from vitral.report.masks import masks_figure, per_class_figure
from vitral.report.page import Picture, Section
from vitral.report.style import png
from vitral.store.classifier import Classifier, outputs
from vitral.tasks.result_section import WORST

SHOWN = 4  # images of a section


class SegmentationSections:
    """See `vitral.tasks.result_section.ResultSections` and `ShowsMasks`."""

    def detail(self, figures: MaskFigures, classes: Sequence[str], images: str) -> str:
        (low, high), (least, most) = figures.interval, figures.boundary_interval
        untested = [classes[index] for index in figures.objects if index not in figures.tested]
        lacking = f" Not tested, since no mask has them: {list_names(untested)}." if untested else ""
        return (
            f"on {figures.n:,} {images} (95% interval {percent(low)} to "
            f"{percent(high)}): intersection over union, the mean of {len(figures.tested)} "
            f"classes{figures.without(classes)}. Boundary F-score {percent(figures.boundary_f)} ({percent(least)} to "
            f"{percent(most)}). For comparison, {figures.baseline(classes)}.{lacking}"
        )

    def guess(self, classes: Sequence[str]) -> float | None:
        return None

    def sections(self, figures: MaskFigures, classes: Sequence[str]) -> list[Section]:
        figure = per_class_figure(figures.iou, figures.iou_intervals, figures.class_boundary_f, classes)
        lines = [" ".join(line.split()) for line in figures.lines(classes)]
        text = (
            "Intersection over union: the pixels that both masks give to a class, over those that either does. "
            "Boundary F: how many boundary pixels of one mask lie within 2 pixels of one of the same class in the "
            "other."
        )
        return [Section("How good each class is", text, [Picture(png(figure), "; ".join(lines))])]

    def examples(self, figures: MaskFigures) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " m"]]:
        """Images around the median overlap, and those with the least."""
        order = np.argsort(figures.per_image, kind="stable")
        order = order[~np.isnan(figures.per_image[order])]
        worst = order[:WORST]
        middle = order[len(order) // 2 :][: max(1, len(order) - len(worst))]
        return middle, worst

    def verdict(self, figures: MaskFigures, classes: Sequence[str], index: int) -> tuple[str, str]:
        return f"mean IoU {figures.per_image[index]:.0%}", ""

    def mistakes(self, figures: MaskFigures, classes: Sequence[str]) -> tuple[int, str]:
        return figures.n, "The images with the least mean IoU of their own."

    def mistake(self, figures: MaskFigures, classes: Sequence[str], index: int) -> str:
        return f"mean IoU\n{figures.per_image[index]:.0%}"

    def masks(
        self, model: Classifier, images: Split, name: str, figures: MaskFigures, classes: Sequence[str]
    ) -> list[Section]:
        """Typical and worst images, with both masks and the wrong pixels."""
        typical, worst = self.examples(figures)
        parts = (
            ("Typical masks", f"Images around the median of the mean IoU per image. {LEGEND}", typical[:SHOWN]),
            ("The worst masks", f"{self.mistakes(figures, classes)[1]} {LEGEND}", worst[:SHOWN]),
        )
        return [
            Section(title, text, [self.picture(model, images, name, chosen, figures, classes)])
            for title, text, chosen in parts
            if len(chosen)
        ]

    def picture(
        self,
        model: Classifier,
        images: Split,
        name: str,
        chosen: Int[np.ndarray, " m"],
        figures: MaskFigures,
        classes: Sequence[str],
    ) -> Picture:
        shown, background = images.only(chosen), figures.background
        names = [f"{name} {images.image_name(index)}" for index in chosen.tolist()]
        overlaps = [self.mistake(figures, classes, index) for index in chosen.tolist()]
        predicted = predicted_masks(model, shown.pixels)
        figure = masks_figure(shown.pixels, shown.labels, predicted, classes, background, overlaps)
        titles = "; ".join(f"{one}, {overlap}" for one, overlap in zip(names, overlaps)).replace("\n", " ")
        caption = f"From top to bottom: {', '.join(names)}."
        return Picture(png(figure, 110), f"Images with right and predicted masks: {titles}.", caption)


LEGEND = (
    "A colour per class over the image in grey; the last column marks every wrong pixel. Ignored pixels are white in "
    "the right mask, and not counted."
)


def predicted_masks(model: Classifier, pixels: UInt8[np.ndarray, "n y x 3"]) -> UInt8[np.ndarray, "n y x"]:
    """The likeliest class of each pixel, image by image."""
    return np.concatenate([class_map(output) for output in outputs(model, pixels, lambda sentence: None, 1)])


segmentation = SegmentationSections()
