"""How far an image is from the images that a model was trained on, in numbers that travel with the model.

An image is described in two ways. Its small patches, as the model takes them, have distances from the patches of the
training images (texture, noise, sharpness, colour); seven quantiles of these describe the whole image. What the head
takes as its input has a distance too. Each is a Mahalanobis distance (Lee et al. 2018, "A Simple Unified Framework for
Detecting Out-of-Distribution Samples and Adversarial Attacks", eq. 2, with one Gaussian for all classes, so that it
also suits numbers and several classes). Of the logarithms, since an image that is too plain is as unlike the others as
one that is too rich, the Mahalanobis distance of the whole is taken once more.

Axes:  n images   p patches   d features   r directions   q numbers that describe an image
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float

UNLIKE = "unlike what it was trained on"
UNKNOWN = "training images unknown"
NO_STATISTICS = "the model has no statistics of them, which vitral train writes beside the weights"
FALSE_ALARMS = 0.05  # share of images like the training images that are called unlike them
FEWEST = math.ceil(1 / FALSE_ALARMS) - 1  # images that a threshold with this share needs
QUANTILES = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0)  # of the patches of an image
MOST_DIRECTIONS = 64  # that a Gaussian keeps with a variance of their own
SMALLEST = 1e-6  # variance, over the largest one: a direction that was constant may change by rounding
SHORTEST = 1e-6  # squared distance whose logarithm is taken


@dataclass(frozen=True)
class Distance:
    """The distance of an image from the training images, and the threshold above which it is unlike them.

    >>> Distance(8.25, 4.5).note
    'unlike what it was trained on (distance 8.25, threshold 4.5)'
    >>> Distance(3.0, 4.5).note
    ''
    """

    value: float
    threshold: float

    @property
    def is_unlike(self) -> bool:
        return not self.value <= self.threshold  # so is what has no distance, since the model's features are NaN

    @property
    def note(self) -> str:
        """A few words for an image that is unlike the training images; empty for another."""
        return f"{UNLIKE} (distance {self.value:.3g}, threshold {self.threshold:.3g})" if self.is_unlike else ""

    def to_json(self) -> dict[str, float | bool | None]:
        value = self.value if math.isfinite(self.value) else None
        return {"distance": value, "threshold": self.threshold, "unlike_training_images": self.is_unlike}


@dataclass(frozen=True, eq=False)
class Gaussian:
    """A normal distribution: its mean, and its variance along each direction and in all other directions.

    Up to `MOST_DIRECTIONS` principal directions have a variance each, and the rest share one (Tipping & Bishop 1999,
    "Probabilistic Principal Component Analysis", §3.2), so that it stays small, and can be fitted to fewer images than
    there are features.
    """

    mean: Float[np.ndarray, " d"]
    directions: Float[np.ndarray, "d r"]
    variances: Float[np.ndarray, " r"]
    rest: float

    @classmethod
    def fit(cls, x: Float[np.ndarray, "n d"]) -> "Gaussian":
        """The distribution with the mean and the covariance of these rows."""
        mean = x.mean(axis=0)
        centred = x - mean
        variances, directions = np.linalg.eigh(centred.T @ centred / max(1, len(x) - 1))
        variances, directions = variances[::-1], directions[:, ::-1]
        least = max(SMALLEST * float(variances[0]), 1e-12)
        kept = min(MOST_DIRECTIONS, len(mean))
        rest = float(variances[kept:].mean()) if kept < len(mean) else 1.0
        main = np.ascontiguousarray(directions[:, :kept], dtype=np.float32)
        limited = np.maximum(variances[:kept], least).astype(np.float32)
        return cls(mean.astype(np.float32), main, limited, max(rest, least))

    def squared_distance(self, x: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n"]:
        """The squared Mahalanobis distance of each row, per feature: 1 on average for rows that it was fitted to."""
        directions = self.directions.astype(float)
        centred = x - self.mean.astype(float)
        inside = centred @ directions
        squared = (inside**2 / self.variances.astype(float)).sum(axis=-1)
        if directions.shape[0] > directions.shape[1]:
            outside = (centred**2).sum(axis=-1) - (inside**2).sum(axis=-1)
            squared = squared + outside.clip(min=0) / self.rest
        return np.asarray(squared / len(self.mean))

    def log_distance(self, x: Float[np.ndarray, "*n d"]) -> Float[np.ndarray, "*n"]:
        """The logarithm of the squared distance."""
        return np.log(np.maximum(self.squared_distance(x), SHORTEST))


@dataclass(frozen=True)
class ImageFeatures:
    """What is measured of some images: their patches as the model takes them, and the inputs of its head.

    `head` is None for a model without a linear head.
    """

    patches: Float[np.ndarray, "n p d"]
    head: Float[np.ndarray, "n e"] | None

    def __getitem__(self, which: slice) -> "ImageFeatures":
        return ImageFeatures(self.patches[which], None if self.head is None else self.head[which])


@dataclass(frozen=True, eq=False)
class FeatureStatistics:
    """The training images of a model as three normal distributions, and a threshold for the distance from them.

    `patches` is that of small patches, `head` that of the head's inputs (None for a model without a linear head), and
    `images` that of the numbers that describe an image by the first two. `counts` says how many training images each
    half of the fit took, and how many held-out images set the threshold.
    """

    patches: Gaussian
    head: Gaussian | None
    images: Gaussian
    threshold: float
    counts: tuple[int, int]

    @classmethod
    def fit(cls, training: ImageFeatures, held_out: ImageFeatures) -> "FeatureStatistics":
        """Fit the distributions to training images, and the threshold to images that they were not fitted to.

        At most `FALSE_ALARMS` of images drawn like the held-out ones lie above the threshold on average, however these
        and the training images differ: the threshold is their conformal quantile (Vovk et al. 2005, "Algorithmic
        Learning in a Random World", §2). `held_out` needs at least `FEWEST` images.
        """
        count = len(held_out.patches)
        assert count >= FEWEST and len(training.patches) >= 2, "the caller says of fewer images that they are too few"
        # What describes an image is fitted to other images than what it is made of: distances from a Gaussian are
        # smaller for the images that it was fitted to.
        half = max(1, len(training.patches) // 2)
        first, second = training[:half], training[half:]
        patches = Gaussian.fit(first.patches.reshape(-1, first.patches.shape[-1]))
        head = None if first.head is None else Gaussian.fit(first.head)
        images = Gaussian.fit(describe(patches, head, second))
        fitted = cls(patches, head, images, math.inf, (len(training.patches), count))
        rank = math.ceil((1 - FALSE_ALARMS) * (count + 1))
        threshold = float(np.sort(fitted.values(held_out))[rank - 1])
        return cls(patches, head, images, threshold, fitted.counts)

    def values(self, features: ImageFeatures) -> Float[np.ndarray, " n"]:
        """The distance of each image; 1 on average for images like the training images."""
        return np.sqrt(self.images.squared_distance(describe(self.patches, self.head, features)))

    def distances(self, features: ImageFeatures) -> list[Distance]:
        return [Distance(float(value), self.threshold) for value in self.values(features)]

    @cached_property
    def arrays(self) -> dict[str, np.ndarray]:
        """Everything in it as arrays by name, from which `from_arrays` makes it again."""
        parts = {"patches": self.patches, "head": self.head, "images": self.images}
        found: dict[str, Any] = {"threshold": [self.threshold], "counts": self.counts}
        for name, part in parts.items():
            found |= {f"{name}.{key}": value for key, value in vars(part).items()} if part else {}
        return {name: np.atleast_1d(np.asarray(value)) for name, value in found.items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "FeatureStatistics":
        """Raises `KeyError` or `ValueError` for arrays that are not `FeatureStatistics.arrays`."""

        def gaussian(name: str) -> Gaussian:
            mean, directions, variances, rest = (arrays[f"{name}.{field.name}"] for field in fields(Gaussian))
            if directions.shape != (len(mean), len(variances)):
                raise ValueError(f"the sizes of {name} do not fit together")
            return Gaussian(mean, directions, variances, rest.item())

        head = gaussian("head") if "head.mean" in arrays else None
        first, second = (int(count) for count in arrays["counts"])
        return cls(gaussian("patches"), head, gaussian("images"), arrays["threshold"].item(), (first, second))

    def to_json(self) -> dict[str, Any]:
        training, held_out = self.counts
        return {"threshold": self.threshold, "training_images": training, "validation_images": held_out}


def describe(patches: Gaussian, head: Gaussian | None, features: ImageFeatures) -> Float[np.ndarray, "n q"]:
    """The numbers that describe each image: quantiles of its patches' distances, and the distance of its features."""
    of_patches = np.quantile(patches.log_distance(features.patches), QUANTILES, axis=1).T
    if head is None or features.head is None:
        return of_patches
    return np.concatenate([of_patches, head.log_distance(features.head)[:, None]], axis=1)
