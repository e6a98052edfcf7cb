"""Segmentation: logits of exclusive classes for each pixel.

Figures need counts only, so that the masks of a split are never in memory together.

Axes:  b n images   y x pixels   k classes
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Int, UInt8

from vitral.base.answer import Answered, Loss
from vitral.base.boundaries import boundary_counts, class_counts
from vitral.base.class_weights import balanced_weights
from vitral.base.intervals import bootstrap_weights, finite_or_none, percentiles
from vitral.base.mask_values import IGNORED, background_of

if TYPE_CHECKING:
    from torch import Tensor

    from vitral.base.record import ModelRecord


@dataclass(frozen=True)
class Counts:
    """Pixels of each image, by class: of both masks, of the predicted and of the right one; and the same of edges.

    `edges_predicted` are boundary pixels of the predicted mask, `edges_found` those of them that lie near one of the
    right mask; `edges` and `edges_seen` are the same of the right mask.
    """

    both: Int[np.ndarray, "n k"]
    predicted: Int[np.ndarray, "n k"]
    right: Int[np.ndarray, "n k"]
    edges_predicted: Int[np.ndarray, "n k"]
    edges_found: Int[np.ndarray, "n k"]
    edges: Int[np.ndarray, "n k"]
    edges_seen: Int[np.ndarray, "n k"]

    def only(self, chosen: Int[np.ndarray, " m"]) -> "Counts":
        return Counts(*(getattr(self, name)[chosen] for name in self.__dataclass_fields__))

    def sums(self, weights: Int[np.ndarray, "r n"] | None = None) -> "Counts":
        """Summed over images: one row; with `weights`, how often each sample has each image, one row per sample."""
        own = np.ones((1, len(self.right)), np.int64) if weights is None else weights
        return Counts(*(own @ getattr(self, name) for name in self.__dataclass_fields__))

    @property
    def iou(self) -> Float[np.ndarray, "n k"]:
        """Intersection over union of each class, by row; NaN for a class that neither mask has."""
        union = self.predicted + self.right - self.both
        return np.where(union > 0, self.both / np.maximum(union, 1), np.nan)

    @property
    def boundary_f(self) -> Float[np.ndarray, "n k"]:
        """The harmonic mean of the shares of predicted boundaries that are right and of right ones that are seen."""
        precision = self.edges_found / np.maximum(self.edges_predicted, 1)
        recall = self.edges_seen / np.maximum(self.edges, 1)
        both = precision + recall
        return np.where(
            self.edges + self.edges_predicted > 0, 2 * precision * recall / np.where(both > 0, both, 1), np.nan
        )

    def mean(self, values: Float[np.ndarray, "n k"], classes: Int[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
        """Over those of some classes that the right masks have; NaN where they have none.

        A class that is only predicted takes from the others already.
        """
        present = self.right[:, classes] > 0
        total = np.where(present, np.nan_to_num(values[:, classes]), 0).sum(axis=1)
        return np.where(present.any(axis=1), total / np.maximum(present.sum(axis=1), 1), np.nan)


@dataclass(frozen=True)
class MaskFigures:
    """The figures of masks. `confusion` counts pixels per right class (row) and predicted class (column).

    `background` is the index of the class that means leave out, None if there is none: most pixels belong to it, and
    a model that knows nothing but outlines gets it right.
    """

    counts: Counts
    confusion: Int[np.ndarray, "k k"]
    loss: float
    background: int | None = None
    note: str = ""

    @property
    def n(self) -> int:
        return len(self.counts.right)

    @cached_property
    def objects(self) -> Int[np.ndarray, " m"]:
        """The indices of the classes that are counted in means."""
        return np.array([index for index in range(len(self.confusion)) if index != self.background])

    @cached_property
    def sums(self) -> Counts:
        return self.counts.sums()

    @cached_property
    def samples(self) -> Counts:
        """Of bootstrap samples of the images, the same for all figures."""
        return self.counts.sums(bootstrap_weights(self.n))

    @property
    def tested(self) -> Int[np.ndarray, " m"]:
        """The indices of the classes that are counted in means and that the right masks have."""
        return self.objects[self.sums.right[0, self.objects] > 0]

    @property
    def iou(self) -> Float[np.ndarray, " k"]:
        """Intersection over union of each class, over all images; NaN for a class that neither mask has."""
        return self.sums.iou[0]

    @property
    def class_boundary_f(self) -> Float[np.ndarray, " k"]:
        """The boundary F-score of each class, over all images; NaN for a class that neither mask has."""
        return self.sums.boundary_f[0]

    @property
    def value(self) -> float:
        return float(self.sums.mean(self.sums.iou, self.objects)[0])

    @property
    def score(self) -> tuple[float, float]:
        """The highest mean IoU, and among equals the lowest loss, which decides alone where all is background."""
        return self.value if math.isfinite(self.value) else 0.0, -self.loss

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of the mean IoU over images."""
        return percentiles(self.samples.mean(self.samples.iou, self.objects), self.n)

    def value_on(self, images: Int[np.ndarray, " m"]) -> float:
        sums = self.counts.only(images).sums()
        return float(sums.mean(sums.iou, self.objects)[0])

    @property
    def boundary_interval(self) -> tuple[float, float]:
        """The same of the mean boundary F-score."""
        return percentiles(self.samples.mean(self.samples.boundary_f, self.objects), self.n)

    @property
    def iou_intervals(self) -> list[tuple[float, float]]:
        """The 95 % bootstrap interval of each class's IoU."""
        return [percentiles(column, self.n) for column in self.samples.iou.T]

    @property
    def boundary_intervals(self) -> list[tuple[float, float]]:
        """The same of each class's boundary F-score."""
        return [percentiles(column, self.n) for column in self.samples.boundary_f.T]

    @property
    def pixel_accuracy(self) -> float:
        return float(np.trace(self.confusion) / max(1, self.confusion.sum()))

    @property
    def boundary_f(self) -> float:
        """The mean boundary F-score of the classes of which the mean IoU is one."""
        return float(self.sums.mean(self.sums.boundary_f, self.objects)[0])

    @cached_property
    def per_image(self) -> Float[np.ndarray, " n"]:
        """The mean IoU of each image, over the classes that either of its masks has; NaN for background alone."""
        iou = self.counts.iou[:, self.objects]
        exists = ~np.isnan(iou)
        return np.where(exists.any(axis=1), np.nansum(iou, axis=1) / np.maximum(exists.sum(axis=1), 1), np.nan)

    def without(self, names: Sequence[str]) -> str:
        return "" if self.background is None else f" without {names[self.background]}"

    def headline(self, names: Sequence[str]) -> str:
        return f"mean IoU {percent(self.value)}"

    def summary(self, names: Sequence[str]) -> str:
        (low, high), (least, most) = self.interval, self.boundary_interval
        return (
            f"mean IoU {percent(self.value)}{self.without(names)} (95% interval {percent(low)} to {percent(high)}), "
            f"boundary F {percent(self.boundary_f)} ({percent(least)} to {percent(most)}), "
            f"{self.pixel_accuracy:.1%} of pixels right, loss {self.loss:.3f}"
        )

    def baseline(self, names: Sequence[str]) -> str:
        shares = self.confusion.sum(axis=1) / max(1, self.confusion.sum())
        most = int(shares.argmax())
        present = int((shares[self.objects] > 0).sum())  # the classes that a mean counts
        same = "" if most == self.background or not present else f", mean IoU {shares[most] / present:.1%}"
        return f"always {names[most]}, the most frequent class: {shares[most]:.1%} of pixels right{same}"

    def lines(self, names: Sequence[str]) -> list[str]:
        found = []
        pixels = self.confusion.sum(axis=1)
        intervals = list(zip(self.iou_intervals, self.boundary_intervals))
        for index, name in enumerate(names):
            wrong = self.confusion[index].copy()
            wrong[index] = 0
            most = int(wrong.argmax())
            worst = f"   most often taken for {names[most]} ({wrong[most] / pixels[index]:.1%})" if wrong.any() else ""
            ((low, high), (least, highest)), iou = intervals[index], self.iou[index]
            share = pixels[index] / max(1, pixels.sum())
            found.append(
                f"{name:<16} no pixel, right or predicted"
                if np.isnan(iou)
                else f"{name:<16} IoU {iou:6.1%} (95% interval {percent(low)} to {percent(high)})   boundary F "
                f"{percent(self.class_boundary_f[index]):>6} ({percent(least)} to {percent(highest)})   "
                f"{share:.1%} of pixels{worst}"
            )
        return found

    def to_json(self, names: Sequence[str]) -> dict[str, Any]:
        columns = {"IoU": self.iou, "boundary_F": self.class_boundary_f}
        intervals = {"IoU_interval": self.iou_intervals, "boundary_F_interval": self.boundary_intervals}
        per_class = {
            name: {key: finite_or_none(column[index]) for key, column in columns.items()}
            | {key: [finite_or_none(end) for end in column[index]] for key, column in intervals.items()}
            | {"pixels": int(self.confusion[index].sum())}
            for index, name in enumerate(names)
        }
        with_background = float(self.sums.mean(self.sums.iou, np.arange(len(names)))[0])
        return {
            "mIoU": finite_or_none(self.value),
            "interval": [finite_or_none(end) for end in self.interval],
            "mIoU_with_background": finite_or_none(with_background),
            "boundary_F": finite_or_none(self.boundary_f),
            "boundary_F_interval": [finite_or_none(end) for end in self.boundary_interval],
            "pixel_accuracy": self.pixel_accuracy,
            "loss": self.loss,
            "per_class": per_class,
            "confusion": self.confusion.tolist(),
        }


def percent(value: float) -> str:
    """In words for a person: a mean of no class, or the interval of one image, does not exist."""
    return f"{value:.1%}" if math.isfinite(value) else "undefined"


class MaskTally:
    """Counts a split's masks batch by batch; see `vitral.base.answer.Tally`."""

    def __init__(self, names: Sequence[str]):
        self.classes = len(names)
        self.background = background_of(names)
        self.parts: list[Counts] = []
        self.confusion = np.zeros((self.classes, self.classes), np.int64)
        self.loss = self.pixels = 0.0

    def add(self, output: "Tensor", labels: UInt8[np.ndarray, "b y x"]) -> None:
        import torch

        judged = labels != IGNORED
        right = torch.from_numpy(labels.astype(np.int64)).to(output.device)
        self.loss += float(cross_entropy(output, right, reduction="sum"))
        self.pixels += int(judged.sum())
        # What is ignored is ignored in both masks: it has neither pixels nor boundaries.
        predicted = np.where(judged, class_map(output), np.uint8(IGNORED))
        pairs = labels[judged].astype(np.int64) * self.classes + predicted[judged]
        self.confusion += np.bincount(pairs, minlength=self.classes**2).reshape(self.classes, self.classes)
        edges_predicted, edges_found = boundary_counts(predicted, labels, self.classes)
        edges, edges_seen = boundary_counts(labels, predicted, self.classes)
        both, own, other = (
            class_counts(labels, judged & (labels == predicted), self.classes),
            class_counts(predicted, judged, self.classes),
            class_counts(labels, judged, self.classes),
        )
        self.parts.append(Counts(both, own, other, edges_predicted, edges_found, edges, edges_seen))

    def figures(self, note: str) -> MaskFigures:
        counts = Counts(
            *(np.concatenate([getattr(part, name) for part in self.parts]) for name in Counts.__dataclass_fields__)
        )
        return MaskFigures(counts, self.confusion, self.loss / max(1, self.pixels), self.background, note)


class Segmentation:
    """See `vitral.base.answer.Answer`; `values` are the share of pixels that each class gets."""

    task: Literal["segmentation"] = "segmentation"
    measure = "mIoU"
    unit = "logits"
    per_output = "class"

    def of_model(self, record: "ModelRecord") -> "Segmentation":
        return self

    def values(self, output: "Tensor") -> "Tensor":
        from torch.nn.functional import one_hot

        return one_hot(output.argmax(dim=1).flatten(1), output.shape[1]).double().mean(dim=1).to(output.dtype)

    def loss(
        self,
        label_smoothing: float = 0.0,
        targets: np.ndarray | None = None,
        balanced: bool = False,
        dice: float = 0.0,
    ) -> Loss:
        """Cross-entropy of the pixels that are not ignored, and Dice beside it."""
        import torch

        weights = np.empty(0)
        if balanced:
            assert targets is not None, "a balanced loss needs the masks of the training images"
            weights = balanced_weights(np.bincount(targets[targets != IGNORED]))

        def segmentation_loss(output: "Tensor", labels: "Tensor") -> "Tensor":
            weight = None
            if len(weights):  # a class without training pixels counts as one
                weight = torch.ones(output.shape[1], dtype=output.dtype, device=output.device)
                weight[: len(weights)] = torch.from_numpy(weights).to(weight)
            right = labels.long()
            loss = cross_entropy(output, right, weight=weight, label_smoothing=label_smoothing)
            return loss + dice * dice_loss(output, right) if dice else loss

        def weight(labels: "Tensor") -> float:
            """By pixels that are not ignored; the Dice loss of a part, which is not a mean over pixels, too."""
            pixels = torch.bincount(labels.flatten().long(), minlength=IGNORED)[:IGNORED].double()
            pixels[: len(weights)] *= torch.from_numpy(weights).to(pixels)
            return float(pixels.sum())

        return Loss(segmentation_loss, weight)

    def correct(self, output: "Tensor", targets: "Tensor") -> int | None:
        return None

    def tally(self, record: "ModelRecord") -> MaskTally:
        return MaskTally(record.classes)

    def groups(self, labels: UInt8[np.ndarray, "n y x"], names: Sequence[str]) -> dict[str, np.ndarray]:
        """The images in which each class has pixels."""
        flat = labels.reshape(len(labels), -1)
        return {name: np.flatnonzero((flat == index).any(axis=1)) for index, name in enumerate(names)}

    def describe(self, labels: UInt8[np.ndarray, "n y x"], names: Sequence[str]) -> dict[str, Any]:
        pixels = np.bincount(labels.ravel(), minlength=IGNORED + 1)
        images = self.groups(labels, names)
        found = {
            name: {"images": len(images[name]), "pixels": float(pixels[index] / labels.size)}
            for index, name in enumerate(names)
        }
        return {"task": self.task, "masks": found, "ignored": float(pixels[IGNORED] / labels.size)}

    def text(self, prediction: Answered, top: int | None) -> str:
        shares = [f"{name} {share:.1%}" for name, share in prediction.best(top) if share > 0]
        return f"{', '.join(shares)} of pixels"

    def short(self, prediction: Answered) -> str:
        (name, share), *_ = prediction.best(1)
        return f"{name} ({share:.0%} of pixels)"

    def to_json(self, prediction: Answered, top: int | None) -> dict[str, Any]:
        return {"task": self.task, "shares_of_pixels": dict(prediction.best(top))}

    def to_csv_row(self, prediction: Answered) -> dict[str, str | float]:
        return dict(zip(prediction.names, prediction.values))


def class_map(output: "Tensor") -> UInt8[np.ndarray, "b y x"]:
    """The likeliest class of each pixel."""
    found: np.ndarray = output.argmax(dim=1).cpu().numpy().astype(np.uint8)
    return found


def cross_entropy(output: "Tensor", right: "Tensor", **options: Any) -> "Tensor":
    """Over the pixels that are not ignored; 0 where all are."""
    from torch.nn import functional

    if not bool((right != IGNORED).any()):
        return output.sum() * 0
    return functional.cross_entropy(output, right, ignore_index=IGNORED, **options)


def dice_loss(output: "Tensor", right: "Tensor") -> "Tensor":
    """1 - 2 |A ∩ B| / (|A| + |B|), mean over the classes of the batch: each counts alike, however few its pixels.

    Milletari et al. 2016, "V-Net", §3.
    """
    from torch.nn.functional import one_hot

    judged = right != IGNORED
    likely = output.softmax(dim=1) * judged[:, None]
    truth = one_hot(right.where(judged, 0), output.shape[1]).movedim(-1, 1) * judged[:, None]
    both, total = (likely * truth).sum(dim=(0, 2, 3)), (likely + truth).sum(dim=(0, 2, 3))
    present = truth.sum(dim=(0, 2, 3)) > 0
    return (1 - 2 * both / total.clamp(min=1e-6))[present].mean() if bool(present.any()) else output.sum() * 0


segmentation = Segmentation()
