"""Fit what a model's record says about its training images: after training, once, to a sample of them."""

from collections.abc import Callable

import numpy as np
import torch

from vitral.base.feature_statistics import FEWEST, FeatureStatistics, ImageFeatures
from vitral.data.dataset import Dataset, Split
from vitral.data.preprocess import normalise
from vitral.store.classifier import AT_ONCE, Classifier
from vitral.store.image_features import image_features

TRAINING, HELD_OUT = 1000, 1000  # images at most


def fit_feature_statistics(
    model: Classifier, data: Dataset, report: Callable[[int, int], None] = lambda done, total: None
) -> FeatureStatistics | str:
    """Statistics of a random sample of the training images, with a threshold set on validation images.

    The model runs once on each image, without augmentation; `report(done, total)` counts the images. Where there are
    too few images, the reason in a sentence.
    """
    if len(data.val) < FEWEST or len(data.train) < FEWEST:
        return (
            f"there are {len(data.train)} training and {len(data.val)} validation images, and a threshold needs at "
            f"least {FEWEST} of each"
        )
    training, held_out = draw(data.train, TRAINING), draw(data.val, HELD_OUT)
    total = len(training) + len(held_out)
    fitted_to = features_of(model, training, lambda done: report(done, total))
    return FeatureStatistics.fit(
        fitted_to, features_of(model, held_out, lambda done: report(len(training) + done, total))
    )


def draw(split: Split, most: int) -> Split:
    """A random sample of the images, the same each time."""
    return split.only(np.random.default_rng(0).permutation(len(split))[:most])


def features_of(model: Classifier, split: Split, report: Callable[[int], None]) -> ImageFeatures:
    device, found = next(model.parameters()).device, []
    for start in range(0, len(split), AT_ONCE):
        pixels = torch.from_numpy(split.pixels[start : start + AT_ONCE]).to(device)
        found.append(image_features(model, normalise(pixels, model.preprocessing)))
        report(min(start + AT_ONCE, len(split)))
    heads = [one.head for one in found if one.head is not None]
    return ImageFeatures(
        np.concatenate([one.patches for one in found]), np.concatenate(heads) if len(heads) == len(found) else None
    )
