"""Whether classes differ much in size, and what that means for figures."""

import numpy as np

from vitral.data.class_names import list_names
from vitral.data.dataset import Dataset

RATIO = 4  # from the smallest to the largest class, from which accuracy alone misleads


def imbalance_advice(data: Dataset) -> str:
    """The accuracy of always giving the most frequent class, and which classes are rare; empty if they are alike."""
    counts = np.bincount(data.train.labels, minlength=len(data.classes))
    rare = np.flatnonzero(counts * RATIO <= counts.max())
    if not len(rare):
        return ""
    most = int(counts.argmax())
    some = list_names([f"{data.classes[index]} ({counts[index]:,})" for index in rare])
    return (
        f"{counts[most]:,} of {counts.sum():,} training images are {data.classes[most]}: always predicting it is right "
        f"for {counts[most] / counts.sum():.1%} of them, so compare balanced accuracies. Rare: {some}. To weigh rare "
        "classes more: --class-weights balanced."
    )
